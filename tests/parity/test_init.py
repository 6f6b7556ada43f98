"""Mean and deviation of a set's pixels, as `init` measures them, against numpy with Pillow underneath.

Pictures are written losslessly and are smaller than what `init` shrinks to, so that both see the same levels: what is left is
the rounding of sums in float64. Transparent ones are laid on white, where a value may fall on the neighbouring level.
"""

import numpy as np
import pytest
from PIL import Image

import program


@pytest.mark.parametrize("mode, channels, tolerance", [("RGB", 3, 1e-9), ("RGBA", 3, 1 / 255), ("L", 1, 1e-9)])
def test_mean_and_deviation(mode, channels, tolerance, seed, tmp_path):
    random = np.random.default_rng(seed)
    folder = tmp_path / "photos"
    folder.mkdir()
    first, second = [], []
    for number in range(24):
        height, width = random.integers(33, 60, 2)
        levels = random.integers(0, 256, (height, width, len(mode)), dtype=np.uint8).squeeze()
        picture = Image.fromarray(levels)
        picture.save(folder / f"{number}.png")
        if mode == "RGBA":
            white = Image.new("RGBA", picture.size, "white")
            white.alpha_composite(picture)
            picture = white.convert("RGB")
        pixels = np.asarray(picture, dtype=np.float64).reshape(-1, channels) / 255
        first.append(pixels.mean(axis=0))
        second.append((pixels**2).mean(axis=0))
    mean = np.mean(first, axis=0)
    deviation = np.sqrt(np.mean(second, axis=0) - mean**2)
    model = {1: "micro", 3: "nano64"}[channels]
    found = program.run_json("init", folder, "--out", tmp_path / "out", "--model", model, "--json")
    np.testing.assert_allclose(found["mean"], mean, atol=tolerance, rtol=0)
    np.testing.assert_allclose(found["std"], deviation, atol=tolerance, rtol=0)
