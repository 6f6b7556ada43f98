"""Runs the two programs, with NVRTC and cuBLASLt where the loader finds them."""

import json
import os
import subprocess
from pathlib import Path

FOLDER = Path(os.environ["CONVNEXT_GPU_PROGRAMS"])


class Failed(Exception):
    """A process ended with another exit code than 0, or at the end of its time."""


def environment() -> dict[str, str]:
    there = [os.environ.get("CONVNEXT_GPU_LIBRARIES"), os.environ.get("LD_LIBRARY_PATH")]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(path for path in there if path)}


def obey(order: dict, seconds: float | None = None) -> dict:
    """The report on an order."""
    return json.loads(ran([FOLDER / "gpu"], seconds, json.dumps(order), environment()).splitlines()[-1])


def summary(model: str) -> dict:
    """What the program says of a variant."""
    return json.loads(ran([FOLDER / "gpu", "summary", model, "--json"]))


def ran(command: list, seconds: float | None = None, text: str = "", settings: dict[str, str] | None = None) -> str:
    """Standard output of a process."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, env=settings)
    except subprocess.TimeoutExpired:
        raise Failed(f"{Path(command[0]).name}: not ready after {seconds:.0f} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise Failed(f"{Path(command[0]).name}: exit code {done.returncode}: {said[-2000:]}")
    return done.stdout
