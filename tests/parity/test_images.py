"""Evaluation's resize, crop and normalise against torchvision, with Pillow underneath and on tensors.

Errors are in levels, of which an 8-bit value has 256. Resizing is two passes. Ours rounds to a level after the vertical
one, Pillow after the horizontal one, torchvision on tensors only at the end. A rounding of up to 1/2 grows in the second
pass by the sum of the filter's absolute weights, 1.26: ours and the tensors' may fall on neighbouring levels, ours and
Pillow's may rarely be 2 apart. A pass also clips to black and white, and then the order counts for more; the drawn picture
stays clear of that, a photograph that is given may not.

On JPEG the decoders differ too. Where colour planes have half the resolution, zune-jpeg rounds up each time it interpolates
and libjpeg up and down in turn: its chroma is 1/4 level higher on average, which is red + 0.35, green - 0.26, blue + 0.44.
"""

import math

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
    ("png", "tensors"): (1, 0.2),
    ("png", "Pillow"): (2, 0.2),
    ("jpg", "tensors"): (4, 0.6),
    ("jpg", "Pillow"): (4, 0.6),
}
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def shrunk(plan_size: tuple[int, int], size: tuple[int, int], crop: float) -> list[int]:
    """The size before the centre is cut out: the smallest that covers both sides divided by `crop`."""
    if crop == 1:
        return list(plan_size)
    covered = [math.floor(side / crop) for side in plan_size]
    if plan_size[0] == plan_size[1]:
        short = min(size)
        return [covered[0] if side == short else int(covered[0] * side / short) for side in size]
    scale = max(covered[0] / size[0], covered[1] / size[1])
    return [int(side * scale + 1e-9) for side in size]


@pytest.mark.parametrize("form", ["png", "jpg"])
@pytest.mark.parametrize("model, crop", [("atto", 0.875), ("atto-wide", 0.875), ("tiny384", 1), ("atto", 1)])
def test_evaluation_of_a_photo(model, crop, form, seed, record, tmp_path):
    height, width, _ = program.summary(model)["input"]
    picture = photo.photo(seed)
    file = tmp_path / f"photo.{form}"
    if form == "png":
        picture.save(file)
    else:
        file.write_bytes(photo.jpeg(picture))
    program.run("debug", "image", "--model", model, "--input", file, "--crop", crop, "--output", tmp_path / "y.npy")
    normalised = program.load_array(tmp_path / "y.npy")
    assert normalised.shape == (1, height, width, 3)
    levels = ((normalised[0] * DEVIATION + MEAN) * 255).round()

    # Normalisation alone: torchvision's, of the pixels that ours made.
    again = F.normalize(F.to_tensor(levels.to(torch.uint8).numpy()), MEAN.tolist(), DEVIATION.tolist())
    error = float((again.permute(1, 2, 0) - normalised[0]).abs().max())
    record("normalised pixels", "torchvision", error, 1e-6, model)

    decoded = Image.open(file).convert("RGB")
    size = shrunk((height, width), (decoded.height, decoded.width), crop)
    setting = {"interpolation": InterpolationMode.BICUBIC, "antialias": True}
    with_pillow = F.center_crop(F.resize(decoded, size, **setting), [height, width])
    on_tensors = F.center_crop(F.resize(F.pil_to_tensor(decoded), size, **setting), [height, width])
    where = f"{model}, crop {crop}"
    for name, expected in [
        ("Pillow", torch.from_numpy(np.array(with_pillow))),
        ("tensors", on_tensors.permute(1, 2, 0)),
    ]:
        difference = (levels - expected.float()).abs()
        against = f"torchvision, {name}"
        most, mean = TOLERANCES[form, name]
        most += 3 if photo.GIVEN else 0
        kind = {"png": "PNG", "jpg": "JPEG"}[form]
        record(f"{kind} resized and cropped on {name}: largest, levels", against, float(difference.max()), most, where)
        record(f"{kind} resized and cropped on {name}: mean, levels", against, float(difference.mean()), mean, where)
