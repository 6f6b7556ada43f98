"""Three hundred pictures in five folders, as people have them: of all sizes, in three formats, one of them broken."""

import random
import sys
from pathlib import Path

from PIL import Image, ImageFilter

CLIPART = Path("/usr/share/openclipart/png")
CLASSES = ["animals", "food", "people", "recreation", "transportation"]
EACH = 60


def background(generator: random.Random, width: int, height: int) -> Image.Image:
    """Blurred blobs of colour."""
    few = Image.new("RGB", (4, 3))
    few.putdata([tuple(generator.randrange(90, 256) for _ in range(3)) for _ in range(12)])
    return few.resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2))


def picture(drawing: Path, generator: random.Random) -> Image.Image:
    width, height = generator.randrange(120, 640), generator.randrange(120, 480)
    with Image.open(drawing) as opened:
        drawn = opened.convert("RGBA")
    side = int(min(width, height) * generator.uniform(0.65, 0.9))
    drawn.thumbnail((side, side))
    scene = background(generator, width, height)
    place = [int((whole - part) * generator.uniform(0.35, 0.65)) for whole, part in zip(scene.size, drawn.size)]
    scene.paste(drawn, tuple(place), drawn)
    return scene


def main(folder: Path):
    generator = random.Random(0)
    for name in CLASSES:
        drawings = sorted(path for path in (CLIPART / name).rglob("*.png") if path.stat().st_size < 400_000)
        made = folder / name
        made.mkdir(parents=True)
        for number, drawing in enumerate(generator.sample(drawings, EACH)):
            ending = ["jpg", "png", "webp"][number % 3]
            picture(drawing, generator).save(made / f"{name}-{number:02}.{ending}")
    broken = folder / CLASSES[0] / f"{CLASSES[0]}-00.jpg"
    broken.write_bytes(broken.read_bytes()[:700])


main(Path(sys.argv[1]))
