"""Runs the program, and passes arrays and weights to it and back."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

PROGRAM = os.environ.get("CONVNEXT", "target/release/parity")


class Refused(Exception):
    """The program ended with another exit code than 0; the text is what it said."""


def run(*arguments, folder=None) -> str:
    """Standard output of a command."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)], capture_output=True, text=True, cwd=folder, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise Refused(f"{' '.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout


def run_json(*arguments):
    return json.loads(run(*arguments))


def summary(model: str) -> dict:
    """What the program says of a variant."""
    return run_json("summary", model, "--json")


def version() -> str:
    return run("--version").strip()


def save_images(path: Path, images: torch.Tensor) -> Path:
    """[N, C, H, W] as the program takes images, [N, H, W, C]."""
    return save_array(path, images.permute(0, 2, 3, 1))


def save_array(path: Path, values: torch.Tensor) -> Path:
    np.save(path, values.detach().to(torch.float32).contiguous().numpy())
    return path


def load_array(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(path))


def save_weights(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    save_file({name: value.detach().contiguous() for name, value in weights.items()}, path)
    return path


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def forward(model: str, weights: Path, images: torch.Tensor, folder: Path) -> torch.Tensor:
    """Logits."""
    save_images(folder / "x.npy", images)
    run("debug", "forward", "--model", model, "--weights", weights, "--input", folder / "x.npy", "--output", folder / "y.npy")
    return load_array(folder / "y.npy")
