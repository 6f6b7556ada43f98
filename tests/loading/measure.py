"""Images a second of one loader on one set, in this process: read, decoded, cropped at random, resized, mirrored, normalised.

    python measure.py LOADER FOLDER_OR_TAR SIDE CHANNELS SECONDS
"""

import glob
import random
import sys
import time

SCALE, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)


def files(path: str) -> list[str]:
    """The pictures of a folder of class folders, shuffled."""
    found = sorted(name for name in glob.glob(f"{path}/*/*"))
    random.Random(1).shuffle(found)
    return found


def endless(found: list):
    while True:
        yield from found


def torchvision(path: str, side: int, channels: int):
    """torchvision's decoder (libjpeg-turbo) and its transforms on tensors."""
    import torch
    from torchvision import io
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    mode = io.ImageReadMode.GRAY if channels == 1 else io.ImageReadMode.RGB
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(side, SCALE, RATIO, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * channels, [0.25] * channels),
        ]
    )
    for name in endless(files(path)):
        transform(io.decode_image(io.read_file(name), mode))
        yield 1


def pillow_transform(side: int, channels: int):
    import torch
    from torchvision import transforms as v1

    torch.set_num_threads(1)
    return v1.Compose(
        [
            v1.RandomResizedCrop(side, SCALE, RATIO, v1.InterpolationMode.BICUBIC),
            v1.RandomHorizontalFlip(),
            v1.ToTensor(),
            v1.Normalize([0.5] * channels, [0.25] * channels),
        ]
    )


def dataloader(path: str, side: int, channels: int):
    """PyTorch's DataLoader with Pillow: the usual way, one worker process."""
    from PIL import Image
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    mode = "L" if channels == 1 else "RGB"
    data = ImageFolder(path, pillow_transform(side, channels), loader=lambda name: Image.open(name).convert(mode))
    while True:
        for images, _ in DataLoader(data, batch_size=32, shuffle=True, num_workers=1, persistent_workers=False):
            yield len(images)


def webdataset(path: str, side: int, channels: int):
    """webdataset's tars with Pillow, in this process."""
    import webdataset as wds

    mode = "L" if channels == 1 else "RGB"
    transform = pillow_transform(side, channels)
    data = wds.WebDataset(path, shardshuffle=False, empty_check=False).shuffle(100).decode("pil").repeat()
    for sample in data:
        image = next(value for key, value in sample.items() if key in ("jpg", "png"))
        transform(image.convert(mode))
        yield 1


def opencv(path: str, side: int, channels: int):
    """OpenCV, with torchvision's crop."""
    import cv2
    import numpy as np
    import torch
    from torchvision.transforms import RandomResizedCrop

    cv2.setNumThreads(1)
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    for name in endless(files(path)):
        image = cv2.imread(name, flag)
        box = torch.empty(1, *image.shape[:2])
        top, left, height, width = RandomResizedCrop.get_params(box, SCALE, RATIO)
        image = image[top : top + height, left : left + width]
        smaller = height > side or width > side
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        if random.random() < 0.5:
            image = cv2.flip(image, 1)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if channels == 3 else image
        (image.astype(np.float32) / 255 - 0.5) / 0.25
        yield 1


def dali(path: str, side: int, channels: int):
    """DALI's pipeline for the CPU, which decodes the crop only; one thread."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=32, num_threads=1, device_id=None)
    def pipeline():
        encoded, _ = fn.readers.file(file_root=path, random_shuffle=True)
        kind = types.GRAY if channels == 1 else types.RGB
        images = fn.decoders.image_random_crop(encoded, output_type=kind, random_area=SCALE, random_aspect_ratio=RATIO)
        images = fn.resize(images, size=(side, side), interp_type=types.INTERP_CUBIC, antialias=True)
        return fn.crop_mirror_normalize(
            images,
            mean=[127.5] * channels,
            std=[63.75] * channels,
            mirror=fn.random.coin_flip(),
            dtype=types.FLOAT,
            output_layout="HWC",
        )

    pipe = pipeline()
    pipe.build()
    while True:
        pipe.run()
        yield 32


LOADERS = {
    "torchvision": torchvision,
    "DataLoader": dataloader,
    "webdataset": webdataset,
    "OpenCV": opencv,
    "DALI": dali,
}

if __name__ == "__main__":
    name, path, side, channels, seconds = sys.argv[1:]
    stream = LOADERS[name](path, int(side), int(channels))
    warm = time.perf_counter() + float(seconds) / 4
    while time.perf_counter() < warm:
        next(stream)
    images, begin = 0, time.perf_counter()
    while (took := time.perf_counter() - begin) < float(seconds):
        images += next(stream)
    print(images / took)
