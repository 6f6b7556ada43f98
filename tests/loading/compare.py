"""Loaders in turn on one core: see `run`."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from measure import LOADERS
from pictures import make

HERE = Path(__file__).parent
CONVNEXT = os.environ["CONVNEXT"]


@dataclass
class Set:
    """Pictures, the model that takes them, and how they are packed for each of our rows."""

    about: str
    count: int
    height: int
    width: int
    channels: int
    extension: str
    model: str
    side: int
    ours: dict[str, str]


SETS = {
    "photographs": Set(
        "JPEGs of 500 x 375", 400, 375, 500, 3, "jpg", "atto", 224,
        {"their bytes": "--verbatim", "restart markers": "", "raw": "--format raw"},
    ),
    "packed": Set(
        "JPEGs of 341 x 256", 400, 256, 341, 3, "jpg", "atto", 224,
        {"their bytes": "--verbatim", "restart markers": "", "raw": "--format raw"},
    ),
    "large": Set(
        "JPEGs of 3456 x 2592", 40, 2592, 3456, 3, "jpg", "atto", 224,
        {"their bytes": "--verbatim", "restart markers": ""},
    ),
    "small": Set("PNGs of 64 x 64", 4000, 64, 64, 3, "png", "nano64", 64, {"their bytes": ""}),
    "tiny": Set("PNGs of 28 x 28, grey", 8000, 28, 28, 1, "png", "micro", 28, {"their bytes": ""}),
}


def pack(pictures: Path, name: str, way: str, flags: str) -> Path:
    """Shards of a set, unless they are there."""
    to = pictures / f"{name}-{way.replace(' ', '-')}"
    if not Path(f"{to}-000000.tar").exists():
        command = [CONVNEXT, "pack", "--folder", pictures / name, "--output", to, *flags.split()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return to


def on_core(core: int, command: list) -> str:
    """What a command prints, with all of its threads and processes on one core."""
    line = ["taskset", "-c", str(core), *map(str, command)]
    return subprocess.run(line, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def ours(core: int, shards: Path, of: Set, seconds: float) -> float:
    """Images a second of our loader: one worker."""
    bench = [CONVNEXT, "bench", "--job", "load", "--model", of.model, "--batch", "32", "--threads", "1", "--json"]
    bench += ["--data", f"{shards}-*.tar"]
    rate = json.loads(on_core(core, [*bench, "--steps", "5"]))["img_s"]
    steps = max(5, round(seconds * rate / 32))
    return json.loads(on_core(core, [*bench, "--steps", steps]))["img_s"]


def main() -> None:
    flags = argparse.ArgumentParser(description="Compares loaders on one core.")
    flags.add_argument("--pictures", type=Path, required=True, help="where the pictures are made")
    flags.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    flags.add_argument("--loaders", nargs="*", choices=LOADERS, default=list(LOADERS))
    flags.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    flags.add_argument("--seconds", type=float, default=4, help="of each measurement")
    flags.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="which core")
    args = flags.parse_args()

    for name in args.sets:
        of = SETS[name]
        folder = args.pictures / name
        make(folder, of.count, of.height, of.width, of.channels, of.extension)
        shards = {way: pack(args.pictures, name, way, flags) for way, flags in of.ours.items()}
        rates: dict[str, list[float]] = {}
        for _ in range(args.rounds):
            for way, path in shards.items():
                rates.setdefault(f"ours, {way}", []).append(ours(args.core, path, of, args.seconds))
            for loader in args.loaders:
                path = f"{shards['their bytes']}-000000.tar" if loader == "webdataset" else folder
                command = [sys.executable, HERE / "measure.py", loader, path, of.side, of.channels, args.seconds]
                try:
                    rates.setdefault(loader, []).append(float(on_core(args.core, command)))
                except subprocess.CalledProcessError as error:
                    print(f"{loader} failed on {name}: {error}", file=sys.stderr)
        peers = [statistics.median(found) for loader, found in rates.items() if loader in LOADERS and found]
        best = max(peers, default=float("nan"))
        print(f"\n{of.about} to {of.side}, one core:\n\n| loader | img/s | of the best other |\n|---|---|---|")
        for loader, found in rates.items():
            if not found:
                continue
            middle = statistics.median(found)
            print(f"| {loader} | {middle:.0f} ({min(found):.0f} to {max(found):.0f}) | {middle / best:.2f} x |", flush=True)


if __name__ == "__main__":
    main()
