"""A photograph to resize: one that is given, or a picture drawn with a photograph's spectrum."""

import io
import os

import numpy as np
from PIL import Image

GIVEN = os.environ.get("CONVNEXT_PARITY_PHOTO")


def photo(seed: int, height: int = 901, width: int = 1203) -> Image.Image:
    """Correlated colour noise whose amplitude falls with frequency, as natural pictures' does, with hard edges in it."""
    if GIVEN:
        return Image.open(GIVEN).convert("RGB")
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


def jpeg(picture: Image.Image) -> bytes:
    """As cameras write it: colours at half the resolution."""
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=90, subsampling="4:2:0")
    return data.getvalue()
