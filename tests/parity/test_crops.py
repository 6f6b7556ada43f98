"""Random resized crops against torchvision's: the same distributions of area, aspect and place.

Two-sample Kolmogorov-Smirnov tests on 20,000 windows each: the statistic is the largest distance between the two
cumulative distributions. Its bound is that of p = 1e-5. The seeds are fresh, so that a right program fails at random: with
16 tests, once in some six thousand runs.
"""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

import program

COUNT = 20_000
LARGEST = float(np.sqrt(-np.log(1e-5 / 2) / COUNT))


@pytest.mark.parametrize(
    "height, width, scale",
    [(375, 500, (0.08, 1.0)), (500, 375, (0.2, 1.0)), (224, 224, (0.2, 1.0)), (120, 400, (0.2, 1.0))],
)
def test_windows(height, width, scale, seed, record, tmp_path):
    program.run(
        "debug", "crops", "--height", height, "--width", width, "--count", COUNT, "--seed", seed,
        "--scale", *scale, "--output", tmp_path / "windows.npy",
    )  # fmt: skip
    found = np.load(tmp_path / "windows.npy").astype(int)
    torch.manual_seed(seed)
    image = torch.empty(1, height, width)
    ratio = [3 / 4, 4 / 3]
    draws = [RandomResizedCrop.get_params(image, list(scale), ratio) for _ in range(COUNT)]
    expected = np.array(draws)

    def area(windows):
        return windows[:, 2] * windows[:, 3] / (height * width)

    def aspect(windows):
        return windows[:, 3] / windows[:, 2]

    # Where a window lies, as a share of the room that there is for it.
    def place(axis, side):
        return lambda windows: windows[:, axis] / np.maximum(side - windows[:, axis + 2], 1)

    for what, of in [
        ("area", area), ("aspect", aspect), ("row", place(0, height)), ("column", place(1, width)),
    ]:  # fmt: skip
        test = ks_2samp(of(found), of(expected))
        where = f"p = {test.pvalue:.2g}, {height}x{width}"
        record(f"random crops: {what}", "torchvision, KS distance", test.statistic, LARGEST, where)
