"""Seeds, the record of what was compared, and the table at the end."""

import hashlib
import importlib.metadata
import os
import platform
import secrets

import pytest
import torch

import program

SEED = int(os.environ.get("CONVNEXT_PARITY_SEED", secrets.randbits(32)))
PACKAGES = [
    "torch", "torchvision", "timm", "transformers", "webdataset", "pillow", "onnxruntime", "scipy", "scikit-learn", "numpy"
]  # fmt: skip

# What was compared, and with what -> tolerance, worst error, where it was.
RECORDS: dict[tuple[str, str], tuple[str, float, str]] = {}

torch.set_num_threads(len(os.sched_getaffinity(0)))


def pytest_addoption(parser):
    parser.addoption("--markdown", action="store_true", help="the table as Markdown")


def pytest_report_header(config):
    return [f"CONVNEXT_PARITY_SEED={SEED}", f"{program.version()} against {', '.join(versions())}"]


def versions():
    found = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return [f"Python {platform.python_version()}", *found]


@pytest.fixture
def seed(request) -> int:
    """A seed of the test's own, from that of the run."""
    return int.from_bytes(hashlib.sha256(f"{SEED} {request.node.nodeid}".encode()).digest()[:4])


@pytest.fixture
def generator(seed) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def record():
    """`record(what, against, error, tolerance, where)`: notes the worst error of each line, and fails above the tolerance."""

    def note(what: str, against: str, error: float, tolerance: float, where: str = ""):
        kept = RECORDS.get((what, against))
        if kept is None or not error <= kept[1]:
            RECORDS[what, against] = (f"{tolerance:.3g}", error, where)
        assert error <= tolerance, f"{what}, against {against}: {error:.3g} is more than {tolerance:g} ({where})"

    return note


@pytest.fixture
def record_exact():
    """`record_exact(what, against, count, unit)`: notes that so many things were equal, bit for bit or number for number."""

    def note(what: str, against: str, count: int, unit: str):
        before = RECORDS.get((what, against))
        total = count + (int(before[2].split()[0]) if before else 0)
        RECORDS[what, against] = ("equal", 0.0, f"{total} {unit}")

    return note


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Length of the difference over the length of what is expected."""
    found, expected = found.double().flatten(), expected.double().flatten()
    assert found.shape == expected.shape, f"{found.shape[0]} values, expected {expected.shape[0]}"
    difference = (found - expected).norm()
    return 0.0 if difference == 0 else float(difference / expected.norm())


def worst(found: dict, expected: dict) -> tuple[float, str]:
    """The largest relative error of the tensors of one name, and its name. The names must be the same."""
    assert set(found) == set(expected), sorted(set(found) ^ set(expected))
    for name in found:
        assert tuple(found[name].shape) == tuple(expected[name].shape), name
    return max((relative(found[name], expected[name]), name) for name in found)


def pytest_terminal_summary(terminalreporter, config):
    if not RECORDS:
        return
    heading = ["compared", "with", "tolerance", "worst", "where"]
    rows = [
        [what, against, tolerance, "0" if tolerance == "equal" else f"{error:.1e}", where]
        for (what, against), (tolerance, error, where) in RECORDS.items()
    ]
    terminalreporter.section("comparison")
    write = terminalreporter.write_line
    if config.getoption("markdown"):
        for row in [heading, ["---"] * len(heading), *rows]:
            write("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    else:
        widths = [max(len(row[column]) for row in [heading, *rows]) for column in range(len(heading))]
        for row in [heading, *rows]:
            write("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    write(f"\nseed {SEED}; {', '.join(versions())}")
