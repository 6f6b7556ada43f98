"""Our shards read by webdataset, and webdataset's by us."""

import io
import json

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

import photo
import plain
import program
from conftest import relative

COUNT = 37


def pictures(seed: int, form: str) -> list[tuple[bytes, int]]:
    """Encoded pictures of different sizes with labels."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(COUNT):
        picture = photo.drawn(seed + index, *(int(side) for side in random.integers(20, 90, 2)))
        data = io.BytesIO()
        picture.save(data, {"png": "PNG", "jpg": "JPEG"}[form])
        found.append((data.getvalue(), int(random.integers(0, 1000))))
    return found


def pixels(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("form", ["png", "jpg"])
def test_webdataset_reads_ours(form, seed, record_exact, tmp_path):
    samples = pictures(seed, form)
    lines = []
    for index, (data, label) in enumerate(samples):
        (tmp_path / f"{index}.{form}").write_bytes(data)
        lines.append(f"{index}.{form}\t{label}\n")
    (tmp_path / "list.tsv").write_text("".join(lines))
    program.run(
        "pack", "--list", "list.tsv", "--output", "packed", "--in-order", "--max-samples-per-shard", 16, folder=tmp_path
    )
    shards = sorted(str(path) for path in tmp_path.glob("packed-*.tar"))
    assert len(shards) == 3
    read = webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8").to_tuple(form, "cls")
    raw = list(webdataset.WebDataset(shards, shardshuffle=False).to_tuple(form, "cls"))
    assert [data for data, _ in raw] == [data for data, _ in samples]
    for (data, label), (found, found_label) in zip(samples, read, strict=True):
        assert np.array_equal(found, pixels(data)) and found_label == label
    record_exact("shards that we wrote", "webdataset", COUNT, "images and labels")


@pytest.mark.parametrize("form", ["png", "jpg"])
def test_we_read_webdatasets(form, seed, record_exact, tmp_path):
    samples = pictures(seed, form)
    shard = tmp_path / "theirs.tar"
    with webdataset.TarWriter(str(shard)) as writer:
        for index, (data, label) in enumerate(samples):
            extra = json.dumps({"index": index}).encode()
            writer.write({"__key__": f"pictures/{index:05}", form: data, "cls": label, "json": extra})
    program.run("index", shard)
    report = program.run_json("inspect", shard, "--samples", COUNT, "--verify", "--json")
    assert report["samples"] == COUNT and report["shards"][0]["faults"] == []
    assert report["classes"] == max(label for _, label in samples) + 1
    for found, (data, label) in zip(report["shards"][0]["first"], samples, strict=True):
        height, width, channels = pixels(data).shape
        assert (found["label"], found["bytes"]) == (label, len(data))
        assert (found["height"], found["width"], found["channels"]) == (height, width, channels)
    record_exact("shards that webdataset wrote", "what went in", COUNT, "records")


def test_evaluation_on_a_shard_of_webdatasets(generator, seed, record, tmp_path):
    """Loss and top-1 over their shard equal those of the pictures that went into it: every pixel and label arrives.

    At 36 pixels and a crop of 0.875 nothing is resampled for an input of 32, and PNG loses nothing.
    """
    model = "micro"
    plan = plain.Plan.of(program.summary(model))
    assert (plan.height, plan.width, plan.channels) == (32, 32, 1)
    random = np.random.default_rng(seed)
    weights = plain.random_values(plain.classifier_shapes(plan), generator)
    images, labels = [], []
    with webdataset.TarWriter(str(tmp_path / "theirs.tar")) as writer:
        for index in range(COUNT):
            picture = photo.drawn(seed + index, 36, 36).convert("L")
            label = int(random.integers(0, plan.classes))
            writer.write({"__key__": f"{index:05}", "png": picture, "cls": label})
            images.append(torch.from_numpy(np.array(picture))[2:34, 2:34])
            labels.append(label)
    shard = tmp_path / "theirs.tar"
    program.run("index", shard)
    found = program.run_json(
        "evaluate", program.save_weights(tmp_path / "w.safetensors", weights), "--model", model,
        "--data", shard, "--out", tmp_path / "evaluation", "--json",
    )  # fmt: skip
    values = (torch.stack(images).unsqueeze(1).double() / 255 - 0.5) / 0.25
    logits = plain.classify(plan, {name: value.double() for name, value in weights.items()}, values)
    labels = torch.tensor(labels)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    assert found["samples"] == COUNT
    assert found["top1"] == pytest.approx(float((logits.argmax(-1) == labels).double().mean()))
    error = relative(torch.tensor(found["loss"]), loss)
    record("evaluation on a shard that webdataset wrote: loss", "plain PyTorch, f64", error, 1e-5, model)
