"""Pictures to load: noise whose spectrum falls as that of photographs, so that JPEGs of it are as large as theirs."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 4


def picture(random: np.random.Generator, height: int, width: int, channels: int) -> np.ndarray:
    """Bytes [height, width, channels]: luma of a falling spectrum, colour that varies slowly beside it."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))

    def field(power: float, spread: float) -> np.ndarray:
        spectrum = random.normal(size=frequency.shape) + 1j * random.normal(size=frequency.shape)
        values = np.fft.irfft2(spectrum / frequency**power, (height, width))
        return values / values.std() * spread

    luma = 128 + field(1.1, 52)
    if channels == 1:
        return np.clip(luma, 0, 255).astype(np.uint8)
    blue, red = field(1.6, 16), field(1.6, 16)
    rgb = np.stack([luma + 1.4 * red, luma - 0.34 * blue - 0.71 * red, luma + 1.77 * blue], -1)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def make(folder: Path, count: int, height: int, width: int, channels: int, extension: str) -> None:
    """Class folders of `count` files, unless they are there."""
    made = folder.parent / f"{folder.name}.made"
    if made.exists():
        return
    random = np.random.default_rng(7)
    for number in range(count):
        of_class = folder / f"class{number % CLASSES}"
        of_class.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(picture(random, height, width, channels))
        quality = {"quality": 90, "subsampling": "4:2:0"} if extension == "jpg" else {}
        image.save(of_class / f"{number:05}.{extension}", **quality)
    made.touch()
