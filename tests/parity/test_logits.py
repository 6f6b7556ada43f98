"""Logits of the paper's sizes against timm and transformers, f32 on both sides, random weights.

Weights go from timm through our reader, and from there through our writer to transformers, so that names, axes and
arithmetic are all in the comparison. The tolerance is on the whole vector; two right programs in f32 differ by some 1e-6.
"""

import pytest
import torch

import libraries
import plain
import program
from conftest import relative

TOLERANCE = 1e-4


def compare(model: str, build, samples: int, generator, record, folder, what: str):
    plan = plain.Plan.of(program.summary(model))
    images = torch.randn(samples, plan.channels, plan.height, plan.width, generator=generator)
    where = f"{model}, {plan.height}x{plan.width}"

    theirs = build()
    weights = program.save_weights(folder / "timm.safetensors", libraries.fill(theirs, generator))
    with torch.inference_mode():
        expected = theirs(images)
    # Freed before the next is built: the largest takes 2.6 GB.
    del theirs
    found = program.forward(model, weights, images, folder)
    record(f"logits of {what}, weights from timm", "timm", relative(found, expected), TOLERANCE, where)

    if not program.knows("export"):
        pytest.skip("this program has no `export`")
    exported = folder / "transformers.safetensors"
    program.run("export", "--model", model, "--weights", weights, "--layout", "hf", "--output", exported)
    weights.unlink()
    theirs = libraries.transformers_model(plan)
    theirs.load_state_dict(program.load_weights(exported), strict=True)
    with torch.inference_mode():
        expected = theirs(images).logits
    del theirs
    # Read back from their layout.
    found = program.forward(model, exported, images, folder)
    exported.unlink()
    error = relative(found, expected)
    record(f"logits of {what}, weights exported", "transformers", error, TOLERANCE, where)


@pytest.mark.parametrize("size", libraries.SIZES)
def test_logits(size, generator, record, tmp_path):
    samples = libraries.SAMPLES.get(size, 2)
    compare(size, lambda: libraries.timm_model(size), samples, generator, record, tmp_path, "the eight sizes at 224")


@pytest.mark.parametrize("model, size", [("atto-wide", "atto"), ("tiny384", "tiny")])
def test_logits_at_other_sizes(model, size, generator, record, tmp_path):
    what = "Atto at 192x256 and Tiny at 384"
    compare(model, lambda: libraries.timm_model(size), 2, generator, record, tmp_path, what)


def test_logits_of_the_first_convnext(generator, record, tmp_path):
    plan = plain.Plan.of(program.summary("atto-v1"))
    compare("atto-v1", lambda: libraries.timm_v1(plan), 2, generator, record, tmp_path, "Atto with V1 blocks")
