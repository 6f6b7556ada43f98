"""Evaluation's resize, crop and normalise against torchvision, with Pillow underneath and on tensors.

Errors are in levels, of which an 8-bit value has 256. Resizing is two passes. Ours rounds to a level after the vertical
one, Pillow after the horizontal one, torchvision on tensors only at the end. A rounding of up to 1/2 grows in the second
pass by the sum of the filter's absolute weights, 1.26: ours and the tensors' may fall on neighbouring levels, ours and
Pillow's may rarely be 2 apart. On average one rounding moves a value by 1/4 level at most; two that are independent of
each other, by 1/3.

Ours and Pillow also clip to black and white between the passes, which counts where bicubic filters overshoot at edges. The
drawn pictures stay clear of that. Photographs do not, and there torchvision's two ways are up to 8 levels apart from each
other, 0.16 on average: ours may be as far from them.

On JPEG the decoders differ too. Inverse transforms may round to neighbouring levels in each plane, and one level of chroma
is 1.8 of blue. Where colour planes have half the resolution, zune-jpeg rounds up each time it interpolates and libjpeg up and
down in turn: its chroma is 1/4 level higher on average, which is red + 0.35, green - 0.26, blue + 0.44.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

import photo
import program

# Largest and mean difference, in levels.
TOLERANCES = {
    ("drawn", "png", "tensors"): (1, 0.25),
    ("drawn", "png", "Pillow"): (2, 0.33),
    # Decoding, up to 5 and 0.35, and then resizing.
    ("drawn", "jpg", "tensors"): (6, 0.6),
    ("drawn", "jpg", "Pillow"): (6, 0.7),
    ("photograph", "png", "tensors"): (8, 0.2),
    ("photograph", "png", "Pillow"): (8, 0.2),
    ("photograph", "jpg", "tensors"): (8, 0.2),
    ("photograph", "jpg", "Pillow"): (8, 0.2),
}
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def shrunk(wanted: tuple[int, int], size: tuple[int, int], crop: float) -> int | list[int]:
    """The size before the centre is cut out, as torchvision takes it.

    For a square it is the short side. torchvision has nothing for others: the smallest that covers both sides divided
    by `crop`.
    """
    if crop == 1:
        return list(wanted)
    covered = [math.floor(side / crop) for side in wanted]
    if wanted[0] == wanted[1]:
        return covered[0]
    scale = max(covered[0] / size[0], covered[1] / size[1])
    return [int(side * scale + 1e-9) for side in size]


def given(source: str, form: str, seed: int, folder: Path) -> Path:
    """A file: a picture that is drawn, of some size, or a photograph, as JPEG or decoded and written as PNG."""
    file = folder / f"picture.{form}"
    if source == "drawn":
        picture = photo.drawn(seed, *(int(side) for side in np.random.default_rng(seed).integers(450, 1300, 2)))
        if form == "jpg":
            file.write_bytes(photo.jpeg(picture, "4:2:0"))
            return file
    elif form == "jpg":
        return photo.photograph(source)
    else:
        picture = Image.open(photo.photograph(source))
    picture.save(file)
    return file


@pytest.mark.parametrize("subsampling, mean", [("4:4:4", 0.05), ("4:2:2", 0.25), ("4:2:0", 0.45)])
def test_decoding(subsampling, mean, seed, record, tmp_path):
    """At the size that the model takes, a warp changes nothing."""
    height, width, _ = program.summary("tiny384")["input"]
    file = tmp_path / "picture.jpg"
    file.write_bytes(photo.jpeg(photo.drawn(seed, height, width), subsampling))
    program.run("debug", "image", "--model", "tiny384", "--input", file, "--crop", 1, "--output", tmp_path / "y.npy")
    difference = (levels_of(tmp_path / "y.npy") - torch.from_numpy(np.array(Image.open(file))).float()).abs()
    what = f"JPEG {subsampling}, decoded"
    record(f"{what}: largest difference, levels", "Pillow", float(difference.max()), 5, f"{height}x{width}")
    record(f"{what}: mean difference, levels", "Pillow", float(difference.mean()), mean, f"{height}x{width}")


def levels_of(file: Path) -> torch.Tensor:
    """The pixels [H, W, 3] that were normalised."""
    return ((program.load_array(file)[0] * DEVIATION + MEAN) * 255).round()


@pytest.mark.parametrize("form", ["png", "jpg"])
@pytest.mark.parametrize("model, crop", [("atto", 0.875), ("atto-wide", 0.875), ("tiny384", 1), ("atto", 1)])
@pytest.mark.parametrize("source", ["drawn", *photo.PHOTOGRAPHS])
def test_evaluation_of_a_picture(source, model, crop, form, seed, record, tmp_path):
    height, width, _ = program.summary(model)["input"]
    file = given(source, form, seed, tmp_path)
    program.run("debug", "image", "--model", model, "--input", file, "--crop", crop, "--output", tmp_path / "y.npy")
    normalised = program.load_array(tmp_path / "y.npy")
    assert normalised.shape == (1, height, width, 3)
    levels = levels_of(tmp_path / "y.npy")

    # Normalisation alone: torchvision's, of the pixels that ours made.
    again = F.normalize(F.to_tensor(levels.to(torch.uint8).numpy()), MEAN.tolist(), DEVIATION.tolist())
    error = float((again.permute(1, 2, 0) - normalised[0]).abs().max())
    record("normalised pixels, largest difference", "torchvision", error, 1e-6, model)

    decoded = Image.open(file).convert("RGB")
    size = shrunk((height, width), (decoded.height, decoded.width), crop)
    setting = {"interpolation": InterpolationMode.BICUBIC, "antialias": True}
    with_pillow = F.center_crop(F.resize(decoded, size, **setting), [height, width])
    on_tensors = F.center_crop(F.resize(F.pil_to_tensor(decoded), size, **setting), [height, width])
    where = f"{decoded.height}x{decoded.width} to {height}x{width}, crop {crop}"
    kind = "drawn" if source == "drawn" else "photograph"
    what = f"{kind}, {'PNG' if form == 'png' else 'JPEG'}, resized and cropped"
    for name, expected in [
        ("Pillow", torch.from_numpy(np.array(with_pillow))),
        ("tensors", on_tensors.permute(1, 2, 0)),
    ]:
        difference = (levels - expected.float()).abs()
        most, mean = TOLERANCES[kind, form, name]
        against = f"torchvision on {name}"
        record(f"{what}: largest difference, levels", against, float(difference.max()), most, where)
        record(f"{what}: mean difference, levels", against, float(difference.mean()), mean, where)
