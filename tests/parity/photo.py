"""Pictures to resize: two photographs, and as many more as wanted, drawn with a photograph's spectrum."""

import io
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOGRAPHS = ["china", "flower"]


def photograph(name: str) -> Path:
    """One of the two that scikit-learn ships, 427x640."""
    return Path(str(resources.files("sklearn.datasets.images") / f"{name}.jpg"))


def drawn(seed: int, height: int, width: int) -> Image.Image:
    """Correlated colour noise whose amplitude falls with frequency, as natural pictures' does, with hard edges in it."""
    random = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    falloff = 1 / np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    planes = []
    for _ in range(3):
        spectrum = falloff * np.exp(2j * np.pi * random.random(falloff.shape))
        plane = np.fft.irfft2(spectrum, (height, width))
        planes.append(plane / plane.std())
    grey, tint, hue = planes
    picture = 127 + 40 * np.stack([grey + 0.3 * tint, grey + 0.3 * hue, grey - 0.3 * tint], axis=-1)
    for _ in range(40):
        top, left = random.integers(0, height), random.integers(0, width)
        rows, columns = random.integers(3, height // 4), random.integers(3, width // 4)
        picture[top : top + rows, left : left + columns] += random.normal(0, 40, 3)
    # Bicubic filters overshoot at edges; from here they do not reach black or white, where the order of clipping counts.
    return Image.fromarray(picture.clip(40, 215).round().astype(np.uint8))


def jpeg(picture: Image.Image, subsampling: str) -> bytes:
    """Cameras write 4:2:0: colours at half the resolution."""
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=90, subsampling=subsampling)
    return data.getvalue()
