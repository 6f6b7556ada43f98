"""Whether exported models load elsewhere and say what this program says.

    loads.py timm FOLDER PREDICTIONS.json      transformers FOLDER ...      onnx FILE ...

PREDICTIONS.json has lines of `{"image": path, "classes": [[label, probability], ...], "names": [...]}`, as `predict --json` writes.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

# Images are resampled by libraries of their own, to bytes: half a byte of 255 in a pixel moves a probability by less than this.
TOLERANCE = 0.03


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def timm(folder: str):
    import timm as library
    import torch

    model = library.create_model(f"local-dir:{folder}", pretrained=True).eval()
    settings = library.data.resolve_model_data_config(model)
    transform = library.data.create_transform(**settings, is_training=False)
    names = json.loads((Path(folder) / "config.json").read_text())["label_names"]
    with torch.no_grad():
        return lambda path: dict(zip(names, softmax(model(transform(opened(path))[None]).detach().numpy()[0])))


def transformers(folder: str):
    import transformers as library

    print("transformers", library.__version__)
    classify = library.pipeline("image-classification", model=folder, top_k=1000)
    processor = classify.image_processor
    edge, crop = processor.size["shortest_edge"], processor.crop_size["height"]

    def predict(path):
        image = opened(path)
        # Of an odd number of pixels that are cut away, torchvision rounds the half to the even neighbour, transformers down: with
        # 3, 7, 11 and so on, its crop begins a pixel earlier.
        if (int(edge * max(image.size) / min(image.size)) - crop) % 4 == 3:
            return None
        return {found["label"]: found["score"] for found in classify(image)}

    return predict


def onnx(file: str):
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    about = session.get_modelmeta().custom_metadata_map
    height, width = json.loads(about["size"])
    mean, std, names = (json.loads(about[key]) for key in ("mean", "std", "classes"))
    view = json.loads(about["view"])

    def predict(path):
        image = opened(path)
        share = view["cropped"]
        if share < 1:
            # As torchvision shrinks and crops.
            edge, short = int(height / share), min(image.size)
            image = image.resize(tuple(int(edge * side / short) for side in image.size), Image.Resampling.BICUBIC)
            left, top = round((image.width - width) / 2), round((image.height - height) / 2)
            image = image.crop((left, top, left + width, top + height))
        else:
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        pixels = (np.asarray(image, dtype=np.float32) / 255 - mean) / std
        logits = session.run(None, {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None].astype(np.float32)})[0][0]
        return dict(zip(names, softmax(logits)))

    return predict


def opened(path: str) -> Image.Image:
    return Image.open(path).convert("RGB")


def main(kind: str, model: str, predictions: str):
    predict = {"timm": timm, "transformers": transformers, "onnx": onnx}[kind](model)
    worst, checked, cropped_elsewhere = 0.0, 0, 0
    for line in Path(predictions).read_text().splitlines():
        ours = json.loads(line)
        theirs = predict(ours["image"])
        if theirs is None:
            cropped_elsewhere += 1
            continue
        for (_, probability), name in zip(ours["classes"], ours["names"]):
            worst = max(worst, abs(theirs[name] - probability))
            checked += 1
    assert checked > 100
    print(f"{kind}: {checked} probabilities, the worst differs by {worst:.4f}; {cropped_elsewhere} images are cropped elsewhere")
    assert worst < TOLERANCE, worst


main(*sys.argv[1:])
