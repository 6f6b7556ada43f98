"""Logits of the paper's sizes against timm and transformers, f32 on both sides, random weights.

Weights go from timm through our reader, and from there through our writer to transformers and back, so that names, axes
and arithmetic are all in the comparison. The tolerance is on the whole vector; two right programs in f32 differ by some
1e-6.
"""

import pytest
import torch

import libraries
import plain
import program
from conftest import relative

TOLERANCE = 1e-4
SIZES = ["atto", "femto", "pico", "nano", "tiny", "base", "large", "huge"]
# Images for each size, 2 if not said: one of the largest is work enough.
SAMPLES = {"large": 1, "huge": 1}


def compare(size: str, variants: list[str], what: str, generator, record, folder):
    """A size of timm's, and variants of ours that have its weights and each its own input."""
    plans = {variant: plain.Plan.of(program.summary(variant)) for variant in variants}
    images = {
        variant: torch.randn(SAMPLES.get(size, 2), plan.channels, plan.height, plan.width, generator=generator)
        for variant, plan in plans.items()
    }
    timms = folder / "timm.safetensors"
    theirs = libraries.timm_model(size)
    program.save_weights(timms, libraries.fill(theirs, generator))
    expected = {"timm": outputs(theirs, images)}
    # Freed before the next is built: the largest takes 2.6 GB.
    del theirs

    exported = folder / "transformers.safetensors"
    program.run("export", "--model", variants[0], "--weights", timms, "--layout", "hf", "--output", exported)
    theirs = libraries.transformers_model(plans[variants[0]])
    libraries.put(theirs, program.load_weights(exported))
    expected["transformers"] = {variant: output.logits for variant, output in outputs(theirs, images).items()}
    del theirs

    # The first variant reads timm's file, the second the exported one.
    for variant, weights in zip(variants, [timms, exported]):
        found = program.forward(variant, weights, images[variant], folder)
        at = f"{plans[variant].height}x{plans[variant].width}"
        for library, logits in expected.items():
            record(f"logits of {what} at {at}", library, relative(found, logits[variant]), TOLERANCE, variant)


def outputs(model: torch.nn.Module, images: dict[str, torch.Tensor]) -> dict:
    with torch.inference_mode():
        return {variant: model(values) for variant, values in images.items()}


@pytest.mark.parametrize("size", SIZES)
def test_logits(size, generator, record, tmp_path):
    compare(size, [size, f"{size}-wide"], "the eight sizes", generator, record, tmp_path)


def test_logits_at_384(generator, record, tmp_path):
    compare("tiny", ["tiny384"], "Tiny", generator, record, tmp_path)


def test_logits_of_the_first_convnext(generator, record, tmp_path):
    compare("atto-v1", ["atto-v1"], "Atto with V1 blocks", generator, record, tmp_path)
