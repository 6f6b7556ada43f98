"""A browser, and pages to open in it: those that were named, or one of two small runs that are made here."""

import os
import random
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

PROGRAM = os.environ["CONVNEXT"]
SCREENSHOTS = Path(os.environ["CONVNEXT_SCREENSHOTS"])


def png(path: Path, color: tuple[int, int, int], side: int = 40):
    """A noisy square of a colour."""
    noise = random.Random(str(path))
    rows = b"".join(
        b"\0" + bytes(min(255, max(0, c + noise.randrange(-60, 60))) for _ in range(side) for c in color)
        for _ in range(side)
    )
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def convnext(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def pages(tmp_path_factory) -> list[Path]:
    named = os.environ.get("CONVNEXT_PAGES", "").split("\n")
    if any(named):
        return [Path(page) for page in named if page]
    folder = tmp_path_factory.mktemp("runs")
    colors = {"a long name of a class": (200, 60, 60), "green": (60, 180, 60), "blue": (60, 60, 200)}
    for name, color in colors.items():
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(12):
            png(folder / "photos" / name / f"{number}.png", color)
    convnext("pack", "--folder", folder / "photos", "--output", folder / "data" / "train")
    data = folder / "data" / "train-*.tar"
    for task, more in [("pretrain", ""), ("finetune", 'start = "scratch"\n')]:
        recipe = folder / f"{task}.toml"
        recipe.write_text(f'[model]\nname = "nano64"\n[{task}]\nepochs = 4\nbatch = 12\nbase_lr = 0.01\n{more}')
        convnext(task, "--recipe", recipe, "--data", data, "--validation", data, "--out", folder / "runs" / task)
    convnext("reconstruct", folder / "runs" / "pretrain", "--data", data)
    convnext("evaluate", folder / "runs" / "finetune", "--data", data)
    # Another of the same name, whose curves coincide.
    shutil.copytree(folder / "runs" / "finetune", folder / "again" / "finetune")
    page = folder / "comparison.html"
    runs = [folder / "runs" / "pretrain", folder / "runs" / "finetune", folder / "again" / "finetune"]
    convnext("report", *runs, "--output", page)
    return [page]


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()
