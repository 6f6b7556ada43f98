"""Runs the parts of the proof one after another, each within its budget, and prints Markdown tables.

PyTorch is not imported here: processes that measure have the device to themselves.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import program
from program import Failed

sys.path.append(str(Path(__file__).parent.parent / "speed"))
from flags import sized, some_of  # noqa: E402

HERE = Path(__file__).parent
MODES = ["channels-last", "compile-channels-last", "compile", "eager"]
JOBS = ["pretrain", "finetune", "infer"]
# Goals: images a second beside the best mode of PyTorch, and memory beside that mode's.
FASTER = {"pretrain": 2.5, "finetune": 1.15, "infer": 1.1}
MEMORY = 0.6
V2_OVER_V1 = 0.97
COPY_SHARE = 0.85
DEPTHWISE = 2.0
# Each gradient, of its norm, in f32; in bf16, of what PyTorch's autocast loses.
F32_ERROR, BF16_ERROR = 1e-3, 3.0
# Each of fifty losses, of the CPU's in f32.
LOSS_ERROR = {"f32": 1e-3, "bf16": 5e-2}
WARMUP = 3
# Seconds that are kept from PyTorch's modes for what follows them.
AFTERWARDS = 40
# Channels and cells a side of Tiny's stages.
STAGES = [[96, 56], [192, 28], [384, 14], [768, 7]]


class Wrong(Exception):
    """Something was computed, and is not right."""


class Clock:
    """What is left of a part's budget."""

    def __init__(self, budget: float):
        self.end = time.monotonic() + budget

    def left(self) -> float:
        left = self.end - time.monotonic()
        if left < 1:
            raise Failed("the part's budget is spent")
        return left


def main() -> None:
    options = parse()
    if options.compile_only:
        sys.exit(compile_only(options))
    chosen = {name: budget for name in PARTS if (budget := getattr(options, name))}
    whole = [name for name, parts in GROUPS.items() if getattr(options, name)] or ([] if chosen else list(GROUPS))
    chosen |= {name: PARTS[name].budget for group in whole for name in GROUPS[group] if name not in chosen}
    print(header(options), flush=True)
    results = {}
    for name, budget in chosen.items():
        print(f"\n## {PARTS[name].title}\n", flush=True)
        start = time.monotonic()
        try:
            results[name] = PARTS[name].run(options, Clock(budget)) or "right"
        except (Failed, Wrong) as error:
            results[name] = f"{'WRONG' if isinstance(error, Wrong) else 'FAILED'}: {error}"
        except Exception as error:  # The other parts run whatever this one does.
            results[name] = f"FAILED: {type(error).__name__}: {error}"
        print(f"\n{results[name]} ({time.monotonic() - start:.0f} s)", flush=True)
    print("\n## Summary\n\n| part | result |\n|---|---|")
    for name, result in results.items():
        print(f"| {name} | {' '.join(result.split())[:300]} |")
    if GOALS:
        print("\n| goal | wanted | found | |\n|---|---|---|---|")
        print("\n".join(GOALS))
    sys.exit(any(result.startswith(("WRONG", "FAILED")) for result in results.values()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/gpu/run.sh", description=__doc__)
    for name, part in PARTS.items():
        what = f"{part.title}; seconds it may take, {part.budget} if none are given"
        parser.add_argument(f"--{name}", type=float, nargs="?", const=part.budget, metavar="SECONDS", help=what)
    for name, parts in GROUPS.items():
        seconds = sum(PARTS[part].budget for part in parts)
        parser.add_argument(f"--{name}", action="store_true", help=f"{', '.join(parts)}: {seconds} s at most")
    models = "variants and images a step, for --speed, --profile and --compile-only"
    parser.add_argument("--models", type=sized, default="tiny:128", help=models)
    jobs = "some of pretrain, finetune, infer, for the same"
    parser.add_argument("--jobs", type=some_of(JOBS), default="pretrain", help=jobs)
    parser.add_argument("--modes", type=some_of(MODES), default=",".join(MODES[:2]), help="PyTorch's, for --speed")
    what = "--speed also with the fastest of several algorithms for each product"
    parser.add_argument("--timed-products", action="store_true", help=what)
    parser.add_argument("--tools", type=some_of(TOOLS), default=",".join(TOOLS), help="for --sanitizer")
    parser.add_argument("--filter", default="", help="names of the tests for --kernels and --sanitizer")
    parser.add_argument("--steps", type=int, default=20, help="steps of each process that are measured")
    what = "fill NVRTC's cache for an architecture, sm_90 if none is given, on a machine without a GPU"
    parser.add_argument("--compile-only", nargs="?", const="sm_90", metavar="ARCHITECTURE", help=what)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, on tiny sizes, for no figures")
    options = parser.parse_args()
    options.device = "cpu" if options.rehearse else "cuda"
    if options.rehearse:
        # Products in bf16 with the matrix unit kill PyTorch's process on some virtual machines.
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"
        options.models, options.steps = [("micro", 2)], 2
        options.modes = [mode for mode in options.modes if "compile" not in mode]
    return options


def header(options: argparse.Namespace) -> str:
    about = "import timm, torch; from torch import version as v; print(v.__version__, v.cuda, torch.backends.cudnn.version(), timm.__version__)"
    try:
        torch, cuda, cudnn, timm = program.ran([sys.executable, "-c", about]).split()
        lines = [f"PyTorch {torch} (CUDA {cuda}, cuDNN {cudnn}), timm {timm}, Python {platform.python_version()}"]
    except Failed as error:
        lines = [f"no PyTorch with timm: {error}"]
    lines.append(f"NVRTC and cuBLASLt from {os.environ['CONVNEXT_GPU_LIBRARIES'] or 'where the loader finds them'}")
    if options.rehearse:
        return "\n".join(["# REHEARSAL ON THE CPU: no figure here means anything", "", *lines])
    try:
        query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit"
        lines.append(f"nvidia-smi: {program.ran(['nvidia-smi', query, '--format=csv,noheader']).strip()}")
    except (Failed, OSError) as error:
        lines.append(f"nvidia-smi: {error}")
    try:
        found = program.obey({"do": "describe"}, 60)
        name = found["device"]
        lines.append(f"{found['architecture']}, {found['memory_mb']:.0f} MiB, NVRTC {found['nvrtc']}")
    except Failed as error:
        name = f"no usable device: {error}"
    return "\n".join([f"# {name}", "", *lines])


def compile_only(options: argparse.Namespace) -> bool:
    """Compiles what --speed, --profile and --kernels will look for in the cache; true if something failed."""
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "convnext" / "kernels"
    failed = False
    for model, batch in options.models:
        for job in options.jobs:
            order = {"on": "cuda", "job": job, "model": model, "batch": batch, "dtype": "bf16", "warmup": 0, "steps": 0}
            for v1 in [False] if job == "pretrain" else [False, True]:
                whole = {"do": "compile", "architecture": options.compile_only, "order": order | {"v1": v1}}
                try:
                    found = program.obey(whole)
                    said = f"{found['modules']} modules by NVRTC {found['nvrtc']}"
                except Failed as error:
                    said, failed = str(error), True
                print(f"{model}, {batch}, {job}{', blocks of V1' if v1 else ''}: {said}", flush=True)
    try:
        where = program.environment() | {"CONVNEXT_CUDA_TESTS": options.compile_only}
        said = program.ran([program.FOLDER / "kernels", "--skip", "on_the_host", *options.filter.split()], settings=where)
        print(f"tests of kernels and steps: {said.strip().splitlines()[-1]}")
    except Failed as error:
        print(f"tests of kernels and steps: {error}")
        failed = True
    print(f"{len(list(cache.glob('*.cubin')))} modules in {cache}")
    return failed


# ---- right ------------------------------------------------------------------------------------------------------------


def kernels(options: argparse.Namespace, clock: Clock) -> None:
    """Every operation and whole steps on the device, against the CPU's references."""
    print(indented(tests(options, clock.left())))


def tests(options: argparse.Namespace, seconds: float) -> str:
    """What the tests say; in a rehearsal they run on the CPU, and are few."""
    said = program.ran(tests_command(options), seconds, settings=tests_environment(options))
    counted = re.search(r"test result: ok\. (\d+) passed", said)
    if not counted or (counted[1] == "0"):
        raise Wrong(f"no test ran: {said.strip()[-300:]}")
    return said


def tests_command(options: argparse.Namespace) -> list[str]:
    # Tests whose device is the CPU need a C++ compiler, and prove nothing of this machine.
    on_device = ["--include-ignored", "--skip", "on_the_host"]
    which = [options.filter or "cross_entropy"] if options.rehearse else [*options.filter.split(), *on_device]
    return [str(program.FOLDER / "kernels"), *which, "--nocapture"]


def tests_environment(options: argparse.Namespace) -> dict[str, str]:
    return program.environment() | ({} if options.rehearse else {"CONVNEXT_CUDA_TESTS": "device"})


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-60:])


def passes(options: argparse.Namespace, clock: Clock) -> None:
    """Loss and gradients of one batch: f64 of PyTorch is the truth."""
    on = ["cpu"] if options.rehearse else ["cpu", "cuda"]
    models = [["micro", 2]] if options.rehearse else [["micro", 4], ["atto", 4]]
    print("| model, job, type | who | loss | all gradients | worst tensor | |\n|---|---|---|---|---|---|", flush=True)
    wrong = []
    for case in script("passes.py", {"models": models, "device": options.device, "on": on}, clock):
        what, pytorch = f"{case['model']} {case['job']} {case['dtype']}", case["sides"]["PyTorch"]
        for side, errors in case["sides"].items():
            if "failed" in errors:
                print(row(what, side, errors["failed"], "", "", "FAILED"), flush=True)
                wrong.append(f"{what} {side}")
                continue
            right = side == "PyTorch" or passed(side, case["dtype"], errors, pytorch)
            figures = [f"{errors[name]:.1e}" for name in ["loss", "gradient", "worst"]]
            figures[2] += f" {errors['worst_name']}"
            print(row(what, side, *figures, "" if right else "WRONG"), flush=True)
            wrong += [] if right else [f"{what} {side}"]
    if wrong:
        raise Wrong(", ".join(wrong))


def passed(side: str, dtype: str, errors: dict, pytorch: dict) -> bool:
    if side == "cpu" or dtype == "f32":
        return max(errors["loss"], errors["worst"]) <= F32_ERROR
    # Losses of few samples differ by chance; gradients are many values.
    return errors["gradient"] <= BF16_ERROR * pytorch["gradient"] and errors["loss"] <= 2e-2


def losses(options: argparse.Namespace, clock: Clock) -> None:
    """Fifty steps of micro on the CPU and on the device."""
    steps, batch = (4, 4) if options.rehearse else (50, 64)
    print("| job, type | first loss | last loss | largest difference | |\n|---|---|---|---|---|", flush=True)
    wrong = []
    for job in ["pretrain", "finetune"]:
        order = {"do": "train", "job": job, "model": "micro", "batch": batch, "steps": steps}
        cpu = program.obey(order | {"on": "cpu", "dtype": "f32"}, clock.left())["losses"]
        for dtype, allowed in LOSS_ERROR.items():
            order |= {"on": options.device, "dtype": dtype}
            try:
                found = program.obey(order, clock.left())["losses"]
            except Failed as error:
                print(row(f"{job} {dtype}", str(error), "", "", "FAILED"), flush=True)
                wrong.append(f"{job} {dtype}")
                continue
            off = max(abs(one - other) / abs(other) for one, other in zip(found, cpu, strict=True))
            right = off <= allowed and (options.rehearse or falls(found))
            figures = [f"{found[0]:.4f}", f"{found[-1]:.4f}", f"{off:.1e}"]
            print(row(f"{job} {dtype}", *figures, "" if right else "WRONG"), flush=True)
            wrong += [] if right else [f"{job} {dtype}"]
    if wrong:
        raise Wrong(", ".join(wrong))


def falls(losses: list[float]) -> bool:
    return median(losses[-4:]) < median(losses[:4])


TOOLS = ["memcheck", "racecheck", "synccheck"]


def sanitizer(options: argparse.Namespace, clock: Clock) -> str | None:
    """The same tests under NVIDIA's compute-sanitizer.

    All views of a schedule lie in one allocation, so memcheck sees only what leaves that: one view written from another
    is for the tests on the CPU, which guard each.
    """
    found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if not found:
        return "NOT RUN: there is no compute-sanitizer on this machine"
    wrong, refused = [], []
    for at, tool in enumerate(options.tools):
        # Each of the tools that are left gets its share.
        seconds = clock.left() / (len(options.tools) - at)
        # Calls that the driver refuses, and that are handled, are no errors: cuBLASLt makes some.
        command = [found, "--tool", tool, "--report-api-errors", "no", "--error-exitcode", "9"]
        command = [*command, *tests_command(options), "--test-threads", "1"]
        verdict, said = judged(command, seconds, tests_environment(options))
        print(f"- {tool}: {verdict}\n\n{indented(said)}\n", flush=True)
        wrong += [tool] if verdict == "wrong" else []
        refused += [tool] if verdict == "not run" else []
    if wrong:
        raise Wrong(", ".join(wrong))
    if refused:
        return f"NOT RUN: {', '.join(refused)}"


def judged(command: list[str], seconds: float, settings: dict[str, str]) -> tuple[str, str]:
    """Whether a tool of the sanitizer found something, and what it said: one that does not count did not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=settings)
    except subprocess.TimeoutExpired as error:
        said = [text if isinstance(text, str) else (text or b"").decode() for text in (error.stdout, error.stderr)]
        return "not run", f"{''.join(said)}\nnot ready after {seconds:.0f} s"
    said = done.stdout + done.stderr
    summary = re.search(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", said)
    if done.returncode == 0 and summary and re.search(r"test result: ok\. [1-9]", said):
        return "right", said
    failed = "test result: FAILED" in said
    return ("wrong" if summary and (summary[1] != "0" or failed) else "not run"), said


# ---- fast -------------------------------------------------------------------------------------------------------------

# Rows of the table of goals.
GOALS: list[str] = []


def goal(what: str, wanted: float, found: float, most: bool = False) -> None:
    met = found <= wanted if most else found >= wanted
    limit = f"{'at most' if most else 'at least'} {wanted:g}"
    GOALS.append(row(what, limit, f"{found:.2f}", "met" if met else "MISSED"))


def operations(options: argparse.Namespace, clock: Clock) -> None:
    """GRN with GELU beside a copy, the depthwise convolution beside cuDNN; bf16."""
    rounds, repeats, batch = (2, 1, 2) if options.rehearse else (20, 20, 128)
    stages = STAGES[2:] if options.rehearse else STAGES
    order = {"measure": "operations", "device": options.device, "stages": stages, "batch": batch}
    order |= {"copied": 1 << (16 if options.rehearse else 28), "rounds": rounds, "repeats": repeats}
    pytorch = list(script("measure.py", order, clock))
    copied = bandwidth(pytorch[0])
    print(f"A copy on the device moves {copied:,.0f} GB/s, reads and writes counted. Batch {batch}.\n")
    print("| part | channels, grid | ms: min, median, max | GB/s | share of a copy | cuDNN's best, ms | cuDNN / ours |")
    print("|---|---|---|---|---|---|---|", flush=True)
    sums: dict[str, list[tuple[float, float]]] = {}
    failed = []
    for part in ["hidden-forward", "hidden-backward", "depthwise-forward", "depthwise-backward"]:
        for channels, side in stages:
            order = {"do": "operation", "part": part, "channels": channels, "side": side, "batch": batch}
            order |= {"dtype": "bf16", "rounds": rounds, "repeats": repeats}
            theirs = [found for found in pytorch if (found["what"], found.get("channels")) == (part, channels)]
            try:
                # There is nothing to rehearse on the CPU but the table.
                ours = {"ms": [1.0], "bytes": 1} if options.rehearse else program.obey(order, clock.left())
            except Failed as error:
                print(row(part, f"{channels}, {side}x{side}", str(error), *[""] * 4), flush=True)
                failed.append(f"{part} {channels}")
                continue
            best = min((median(found["ms"]) for found in theirs), default=None)
            ms, moved = median(ours["ms"]), bandwidth(ours)
            cells = [span(ours["ms"]), f"{moved:,.0f}", f"{moved / copied:.2f}"]
            cells += ["", ""] if best is None else [f"{best:.3f}", f"{best / ms:.2f}"]
            print(row(part, f"{channels}, {side}x{side}", *cells), flush=True)
            sums.setdefault(part, []).append((ms, ours["bytes"] / copied / 1e6 if best is None else best))
    for part, pairs in sums.items():
        ms, other = (sum(column) for column in zip(*pairs))
        where = f"{len(pairs)} of {len(stages)} grids"
        if part.startswith("hidden"):
            goal(f"{part}, share of a copy's bandwidth, {where}", COPY_SHARE, other / ms)
        else:
            goal(f"{part}, times as fast as cuDNN, {where}", DEPTHWISE, other / ms)
    if failed:
        raise Failed(", ".join(failed))


def bandwidth(found: dict) -> float:
    return found["bytes"] / median(found["ms"]) / 1e6


def profile(options: argparse.Namespace, clock: Clock) -> str | None:
    """Where the time of our own steps goes, step by step and not as a graph."""
    if options.rehearse:
        return "NOT RUN: needs a device"
    for model, batch in options.models:
        for job in options.jobs:
            order = {"do": "profile", "on": "cuda", "job": job, "model": model, "batch": batch, "dtype": "bf16"}
            found = program.obey(order | {"warmup": 0, "steps": 5}, clock.left())
            whole = sum(kernel["ms"] for kernel in found["kernels"])
            least = sum(kernel["model_ms"] for kernel in found["kernels"])
            print(f"\n**{model}, {batch}, {job}**: {whole:.3f} ms; by the model of an {found['model']} at least {least:.3f} ms")
            profile_table("kernel", found["kernels"], whole)
            profile_table("product", [line for line in found["products"] if line["ms"] >= 0.005 * whole], whole)


def profile_table(heading: str, lines: list[dict], whole: float) -> None:
    print(f"\n| {heading} | launches | ms | share | GB/s | TFLOP/s | bound by | model, ms | measured / model |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line in sorted(lines, key=lambda line: -line["ms"]):
        ms, model = line["ms"], line["model_ms"]
        rates = [f"{line['bytes'] / ms / 1e6:,.0f}", f"{2 * line['multiply_adds'] / ms / 1e9:,.0f}"]
        measured = [line["kernel"], line["count"], f"{ms:.3f}", f"{ms / whole:.1%}", *rates]
        print(row(*map(str, measured), line["bound"], f"{model:.3f}", f"{ms / model:.2f}"))
    sys.stdout.flush()


def speed(options: argparse.Namespace, clock: Clock) -> None:
    """Whole steps in bf16 beside PyTorch's modes."""
    print("Images a second: median (slowest to fastest step). Memory: what tensors take at most, in MiB.\n")
    print("| model, batch, job | who | images/s | ms: min, median, max | memory | prepared in |\n|---|---|---|---|---|---|", flush=True)
    failed = []
    for model, batch in options.models:
        summary = program.summary(model)
        for job in options.jobs:
            try:
                speed_of(options, clock, summary, batch, job)
            except Failed as error:
                print(row(f"{model}, {batch}, {job}", "FAILED", str(error)[:500], "", "", ""), flush=True)
                failed.append(f"{model} {job}")
    if failed:
        raise Failed(", ".join(failed))


def speed_of(options: argparse.Namespace, clock: Clock, summary: dict, batch: int, job: str) -> None:
    model, what = summary["name"], f"{summary['name']}, {batch}, {job}"
    ours = ours_of(options, clock, model, batch, job)
    print(speed_row(what, "ours", batch, ours), flush=True)
    order = {"measure": "steps", "device": options.device, "job": job, "modes": options.modes, "batch": batch}
    order |= {"warmup": WARMUP, "steps": options.steps, "summary": summary}
    best = late = None
    try:
        for found in script("measure.py", order, Clock(clock.left() - AFTERWARDS)):
            if "error" in found:
                print(row(what, f"PyTorch {found['mode']}", found["error"], "", "", ""), flush=True)
                continue
            check(summary, job, found)
            print(speed_row(what, f"PyTorch {found['mode']}", batch, found), flush=True)
            if best is None or median(found["ms"]) < median(best["ms"]):
                best = found
    except Failed as error:  # What a mode that came too late costs is itself, not the rest.
        late = error
    # Whatever the device did meanwhile shows in a second turn.
    again = ours_of(options, clock, model, batch, job)
    print(speed_row(what, "ours again", batch, again), flush=True)
    ms = max(median(ours["ms"]), median(again["ms"]))
    if best:
        goal(f"{what}: images/s, ours / PyTorch {best['mode']}", FASTER[job], median(best["ms"]) / ms)
        goal(f"{what}: memory, ours / PyTorch {best['mode']}", MEMORY, ours["peak_mb"] / max(best["peak_mb"], 1), most=True)
    if options.timed_products:
        timed = ours_of(options, clock, model, batch, job, timed_products=True)
        print(speed_row(what, "ours, products timed", batch, timed), flush=True)
    if job != "pretrain":
        former = ours_of(options, clock, model, batch, job, v1=True)
        print(speed_row(what, "ours, blocks of V1", batch, former), flush=True)
        goal(f"{what}: images/s, V2 / V1", V2_OVER_V1, median(former["ms"]) / ms)
    if late:
        raise late


def ours_of(options: argparse.Namespace, clock: Clock, model: str, batch: int, job: str, **more: bool) -> dict:
    order = {"do": "bench", "on": options.device, "job": job, "model": model, "batch": batch, **more}
    start = time.monotonic()
    found = program.obey(order | {"dtype": "bf16", "warmup": WARMUP, "steps": options.steps}, clock.left())
    return found | {"prepared_s": time.monotonic() - start - sum(found["ms"]) / 1e3}


def check(summary: dict, job: str, found: dict) -> None:
    """The same model is compared."""
    part = summary["fcmae"] if job == "pretrain" else summary
    if part["parameters"] != found["parameters"]:
        raise Wrong(f"{summary['name']} {job}: {part['parameters']} parameters, {found['parameters']} in PyTorch")


def speed_row(what: str, who: str, batch: int, found: dict) -> str:
    low, middle, high = min(found["ms"]), median(found["ms"]), max(found["ms"])
    rates = [f"{batch / ms * 1e3:,.0f}" for ms in (middle, high, low)]
    memory, prepared = f"{found['peak_mb']:,.0f}", f"{found['prepared_s']:.0f} s"
    return row(what, who, f"{rates[0]} ({rates[1]} to {rates[2]})", span(found["ms"]), memory, prepared)


def span(ms: list[float]) -> str:
    return f"{min(ms):.3f}, {median(ms):.3f}, {max(ms):.3f}"


def row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"


# ---- processes --------------------------------------------------------------------------------------------------------


def script(name: str, order: dict, clock: Clock) -> Iterator[dict]:
    """The lines of a report, as they come; a process that outlives the budget is ended, what it said stays."""
    with tempfile.TemporaryFile("w+") as errors:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        process = subprocess.Popen([sys.executable, str(HERE / name)], text=True, **pipes)
        end = threading.Timer(clock.left(), process.kill)
        end.start()
        try:
            process.stdin.write(json.dumps(order))
            process.stdin.close()
            yield from map(json.loads, process.stdout)
            process.wait()
        finally:
            over = not end.is_alive()
            end.cancel()
            process.kill()
            process.wait()
        errors.seek(0)
        if over:
            raise Failed(f"{name}: ended at the end of the part's budget")
        if process.returncode:
            raise Failed(f"{name}: {errors.read().strip()[-2000:]}")


class Part:
    def __init__(self, title: str, budget: float, run: Callable):
        self.title, self.budget, self.run = title, budget, run


# Together ten minutes, but for the sanitizer, which runs only if it is asked for.
PARTS = {
    "kernels": Part("Kernels and steps against the CPU's references", 180, kernels),
    "passes": Part("Loss and gradients against PyTorch", 90, passes),
    "losses": Part("Fifty steps on the CPU and on the device", 30, losses),
    "operations": Part("Single operations", 60, operations),
    "profile": Part("Where the time of a step goes", 30, profile),
    "speed": Part("Whole steps beside PyTorch", 210, speed),
    "sanitizer": Part("compute-sanitizer", 540, sanitizer),
}
GROUPS = {"right": ["kernels", "passes", "losses"], "fast": ["operations", "profile", "speed"]}

if __name__ == "__main__":
    main()
