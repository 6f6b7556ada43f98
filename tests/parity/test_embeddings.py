"""Features that `predict --embeddings` writes against what timm's last linear layer looks at: image files in, f32 on both
sides, random weights."""

import numpy as np
import torch
from PIL import Image

import libraries
import program
from conftest import relative

TOLERANCE = 1e-4
MEAN, STD = 0.5, 0.25


def test_features(generator, record, tmp_path):
    theirs = libraries.timm_model("atto").eval()
    weights = program.save_weights(tmp_path / "timm.safetensors", libraries.fill(theirs, generator))
    pixels = torch.randint(0, 256, (3, 224, 224, 3), generator=generator, dtype=torch.uint8)
    files = [tmp_path / f"{number}.png" for number in range(len(pixels))]
    for file, image in zip(files, pixels):
        Image.fromarray(np.asarray(image)).save(file)
    found = tmp_path / "features.npy"
    how = ["--mean", MEAN, "--std", STD, "--view", "warped"]
    program.run("predict", "--model", "atto", "--weights", weights, *how, "--embeddings", found, "--json", *files)
    images = (pixels.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    with torch.inference_mode():
        expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
    record("features of image files", "timm", relative(program.load_array(found), expected), TOLERANCE, "atto")
