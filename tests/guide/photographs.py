"""Three hundred pictures in five folders, as people have them: of all sizes, in three formats, one of them broken."""

import random
import sys
from pathlib import Path

from PIL import Image, ImageFilter

CLIPART = Path("/usr/share/openclipart/png")
# Folders of drawings, and what the photographs are called.
CLASSES = {
    "animals": "animals",
    "signs_and_symbols/flags": "flags",
    "food/fruit": "fruit",
    "transportation/roadsigns": "signs",
    "transportation/vehicles": "vehicles",
}
EACH = 60


def background(generator: random.Random, width: int, height: int) -> Image.Image:
    """Blurred blobs of similar colours."""
    ground = [generator.randrange(120, 230) for _ in range(3)]
    few = Image.new("RGB", (4, 3))
    few.putdata([tuple(value + generator.randrange(-25, 26) for value in ground) for _ in range(12)])
    return few.resize((width, height), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2))


def picture(drawing: Path, generator: random.Random) -> Image.Image:
    short = generator.randrange(160, 480)
    sides = [short, int(short * generator.uniform(1, 1.5))]
    width, height = sides if generator.random() < 0.4 else sides[::-1]
    with Image.open(drawing) as opened:
        drawn = opened.convert("RGBA")
    scale = short * generator.uniform(0.6, 0.9) / max(drawn.size)
    drawn = drawn.resize([max(1, int(side * scale)) for side in drawn.size])
    scene = background(generator, width, height)
    place = [int((whole - part) * generator.uniform(0.35, 0.65)) for whole, part in zip(scene.size, drawn.size)]
    scene.paste(drawn, tuple(place), drawn)
    return scene


def main(folder: Path):
    generator = random.Random(0)
    for drawn, name in CLASSES.items():
        drawings = sorted(path for path in (CLIPART / drawn).rglob("*.png") if path.stat().st_size < 400_000)
        made = folder / name
        made.mkdir(parents=True)
        for number, drawing in enumerate(generator.sample(drawings, EACH)):
            ending = ["jpg", "png", "webp"][number % 3]
            picture(drawing, generator).save(made / f"{name}-{number:02}.{ending}")
    broken = folder / "animals" / "animals-00.jpg"
    broken.write_bytes(broken.read_bytes()[:700])


main(Path(sys.argv[1]))
