"""Runs the program and PyTorch's modes in turn, each measurement in a process of its own, and prints Markdown tables.

PyTorch is not imported here: a process starts with the peak memory of the one that started it.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from flags import sized, some_of

PROGRAM = os.environ["CONVNEXT"]
JOBS = ["pretrain", "finetune", "infer"]
DTYPES = ["f32", "bf16"]
# How PyTorch computes, and how its threads wait: asleep is better beside other work, awake on cores of its own.
WAYS = ["eager", "channels-last", "compile"]
WAITS = {"asleep": "passive", "awake": "active"}
MODES = [f"{way}, {wait}" for way in WAYS for wait in WAITS]
WARMUP = 2
# Products in bf16 without the matrix unit, which kills PyTorch's process on some virtual machines.
WITHOUT_MATRIX_UNIT = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}


class Died(Exception):
    """A process ended with another exit code than 0; below 0 it is a signal."""

    def __init__(self, code: int, text: str):
        reason = signal.Signals(-code).name if code < 0 else (text.strip().splitlines() or [f"exit code {code}"])[-1]
        super().__init__(reason)
        self.illegal_instruction = code == -signal.SIGILL


@dataclass
class Measurement:
    """Of one process. Times are of its steps, in milliseconds."""

    batch: int
    ms_median: float
    ms_min: float
    ms_max: float
    peak_mb: float
    # Multiply-adds a second that large f32 products reached; 0 if that was not measured.
    ceiling: float = 0.0

    @property
    def rate(self) -> float:
        return self.batch / self.ms_median * 1e3


@dataclass
class Case:
    """What is measured in turn: one job of one variant. Measurements are by round; a mode that died lacks some."""

    job: str
    model: str
    batch: int
    dtype: str
    summary: dict
    ours: list[Measurement] = field(default_factory=list)
    # Ours with one thread.
    alone: list[Measurement] = field(default_factory=list)
    modes: dict[str, dict[int, Measurement]] = field(default_factory=lambda: {mode: {} for mode in MODES})
    environments: dict[str, dict[str, str]] = field(default_factory=lambda: {mode: {} for mode in MODES})
    deaths: dict[str, list[str]] = field(default_factory=lambda: {mode: [] for mode in MODES})
    torch_mb: float = 0.0

    @property
    def alive(self) -> list[str]:
        return [mode for mode in MODES if self.modes[mode]]

    @property
    def best(self) -> str:
        return max(self.alive, key=lambda mode: rate(self.modes[mode].values()))


def main() -> None:
    arguments = parse()
    versions = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{versions}; PyTorch {PINNED['torch']}, timm {PINNED['timm']}; {processor()}, {arguments.threads} threads;")
    print(f"{arguments.rounds} rounds of {arguments.steps} steps after {WARMUP} of warm-up.", flush=True)
    for name, batch in arguments.models:
        summary = json.loads(ran([PROGRAM, "summary", name, "--json"]))
        if summary["flavour"] != "V2":
            sys.exit(f"{name}: blocks of {summary['flavour']} are not compared here")
        for dtype in arguments.dtypes:
            before = os.getloadavg()[0]
            cases = [Case(job, name, batch, dtype, summary) for job in arguments.jobs]
            for case in cases:
                fill(case, arguments)
            print("\n" + table(cases))
            # Above the number of threads others computed too, which PyTorch's barriers suffer from more than we do.
            print(f"- Load of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} at the end", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/speed/run", description=__doc__)
    parser.add_argument("--models", type=sized, default="atto:16", help="variants and images a step: atto:16,micro:256")
    parser.add_argument("--dtypes", type=some_of(DTYPES), default=",".join(DTYPES))
    parser.add_argument("--jobs", type=some_of(JOBS), default=",".join(JOBS))
    parser.add_argument("--rounds", type=int, default=3, help="times that both sides take their turns")
    parser.add_argument("--steps", type=int, default=8, help="steps of each process that are measured")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def pinned() -> dict[str, str]:
    lines = Path(__file__).with_name("requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


PINNED = pinned()


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


# ---- measuring --------------------------------------------------------------------------------------------------------


def fill(case: Case, arguments: argparse.Namespace) -> None:
    for number in range(arguments.rounds):
        print(f"{case.model} {case.dtype} {case.job}: round {number + 1}", file=sys.stderr)
        case.ours.append(measure_ours(case, arguments, arguments.threads))
        case.alone.append(measure_ours(case, arguments, 1))
        # Nobody is always the last.
        first = number % len(MODES)
        for mode in MODES[first:] + MODES[:first]:
            measure_mode(case, mode, number, arguments)


def measure_ours(case: Case, arguments: argparse.Namespace, threads: int) -> Measurement:
    flags = {
        "job": case.job,
        "model": case.model,
        "batch": case.batch,
        "dtype": case.dtype,
        "threads": threads,
        "steps": arguments.steps,
        "warmup": WARMUP,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    report = json.loads(ran([PROGRAM, "bench", "--json", "--breakdown", *words]))
    times = (report[name] for name in ("ms_median", "ms_min", "ms_max", "peak_rss_mb"))
    return Measurement(case.batch, *times, report["breakdown"]["ceiling"])


def measure_mode(case: Case, mode: str, number: int, arguments: argparse.Namespace) -> None:
    """As installed; from an illegal instruction on, without the matrix unit. Not again after a second death."""
    if len(case.deaths[mode]) > 1:
        return
    try:
        case.modes[mode][number] = measure_pytorch(case, mode, arguments)
    except Died as death:
        case.deaths[mode].append(str(death))
        if death.illegal_instruction and not case.environments[mode]:
            case.environments[mode] = WITHOUT_MATRIX_UNIT
            measure_mode(case, mode, number, arguments)


def measure_pytorch(case: Case, mode: str, arguments: argparse.Namespace) -> Measurement:
    way, wait = mode.split(", ")
    order = {
        "job": case.job,
        "mode": way,
        "dtype": case.dtype,
        "batch": case.batch,
        "threads": arguments.threads,
        "warmup": WARMUP,
        "steps": arguments.steps,
        "summary": case.summary,
    }
    # Compilation in the process itself: no others beside it while steps are measured.
    settings = {"OMP_NUM_THREADS": str(arguments.threads), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    settings["OMP_WAIT_POLICY"] = WAITS[wait]
    script = str(Path(__file__).with_name("measure.py"))
    text = ran([sys.executable, script], json.dumps(order), settings | case.environments[mode])
    report = json.loads(text.splitlines()[-1])
    check(case, report)
    case.torch_mb = report["torch_rss_mb"]
    return Measurement(case.batch, median(report["ms"]), min(report["ms"]), max(report["ms"]), report["peak_rss_mb"])


def check(case: Case, report: dict) -> None:
    """The same model is compared, with the version that the tables name."""
    part = case.summary["fcmae"] if case.job == "pretrain" else case.summary
    if report["parameters"] != part["parameters"]:
        sys.exit(f"{case.model}, {case.job}: {part['parameters']} parameters here, {report['parameters']} in PyTorch")
    if report["torch"].partition("+")[0] != PINNED["torch"]:
        sys.exit(f"PyTorch {report['torch']} is installed, requirements.txt says {PINNED['torch']}")


def ran(command: list[str], text: str = "", settings: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=os.environ | (settings or {}))
    if done.returncode:
        raise Died(done.returncode, done.stderr)
    return done.stdout


# ---- reporting --------------------------------------------------------------------------------------------------------


def table(cases: list[Case]) -> str:
    """One table, of cases that differ in the job only."""
    first = cases[0]
    lines = [
        f"**{first.model}, batch {first.batch}, {first.dtype}**",
        "",
        "| job | best PyTorch, img/s | ours, img/s | ours / PyTorch | of the f32 ceiling | threads over one "
        "| peak memory: PyTorch, ours | ours / PyTorch |",
        "|---|---|---|---|---|---|---|---|",
        *map(row, cases),
        "",
        *map(modes_note, cases),
        *deaths_notes(cases),
        *memory_note(cases),
    ]
    return "\n".join(lines)


def row(case: Case) -> str:
    ours, ours_mb = rate(case.ours), memory(case.ours)
    if not case.alive:
        return f"| {case.job} | none ran | {span(case.ours)} | | | | {ours_mb:.0f} MiB of ours | |"
    best = case.modes[case.best]
    pytorch, pytorch_mb = rate(best.values()), memory(best.values())
    ratios = [case.ours[number].rate / other.rate for number, other in best.items()]
    cells = [
        case.job,
        f"{shown(pytorch)} ({case.best})",
        span(case.ours),
        f"{ours / pytorch:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        f"{share(case):.0%}",
        f"{ours / rate(case.alone):.2f}",
        f"{pytorch_mb:.0f}, {ours_mb:.0f} MiB",
        f"{ours_mb / pytorch_mb:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def share(case: Case) -> float:
    """The model's arithmetic - three times the forward pass for a training step - over the time, of what f32 products reach."""
    part = case.summary["fcmae"] if case.job == "pretrain" else case.summary
    passes = 1 if case.job == "infer" else 3
    return rate(case.ours) * passes * part["multiply_adds"] / median(one.ceiling for one in case.ours)


def rate(rounds: Iterable[Measurement]) -> float:
    return median(one.rate for one in rounds)


def memory(rounds: Iterable[Measurement]) -> float:
    """The median: the first process of torch.compile compiles, which may take more than later ones."""
    return median(one.peak_mb for one in rounds)


def span(rounds: list[Measurement]) -> str:
    """The median of the rounds, and the slowest and the fastest step."""
    slowest = min(one.batch / one.ms_max * 1e3 for one in rounds)
    fastest = max(one.batch / one.ms_min * 1e3 for one in rounds)
    return f"{shown(rate(rounds))} ({shown(slowest)} to {shown(fastest)})"


def shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def modes_note(case: Case) -> str:
    def said(mode: str) -> str:
        rounds = list(case.modes[mode].values())
        return f"{mode} {shown(rate(rounds))} ({memory(rounds):.0f} MiB)"

    return f"- PyTorch's modes, {case.job}, img/s: {'; '.join(map(said, case.alive)) or 'none ran'}"


def deaths_notes(cases: list[Case]) -> list[str]:
    """What died, and what it was measured with instead."""
    fallback = " ".join(f"{name}={value}" for name, value in WITHOUT_MATRIX_UNIT.items())
    where = {}
    for case in cases:
        for mode, deaths in case.deaths.items():
            hows = ["as installed", f"with `{fallback}`" if case.environments[mode] else "again"]
            for reason, how in zip(deaths, hows):
                where.setdefault(f"PyTorch died {how} ({reason})", []).append(f"{case.job} {mode}")
    notes = [f"- {what}: {'; '.join(which)}" for what, which in where.items()]
    if any(case.environments[mode] and case.modes[mode] for case in cases for mode in MODES):
        notes.append(f"- Its figures there are those with `{fallback}`")
    return notes


def memory_note(cases: list[Case]) -> list[str]:
    libraries = [case.torch_mb for case in cases if case.alive]
    if not libraries:
        return []
    return [f"- Of PyTorch's memory {max(libraries):.0f} MiB are its libraries, in use before there is a model"]


if __name__ == "__main__":
    main()
