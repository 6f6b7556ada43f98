"""Fine-tuning: gradients under soft targets, and ten whole steps of optimiser, schedule, layer decay and average."""

import dataclasses
import json
import math
import statistics

import pytest
import torch

import plain
import program
import training
from conftest import relative, worst


def random_targets(samples: int, classes: int, generator: torch.Generator) -> torch.Tensor:
    """Targets that sum to 1, as mixing and smoothing make them."""
    values = torch.rand(samples, classes, generator=generator) ** 4 + 1e-3
    return values / values.sum(-1, keepdim=True)


@pytest.mark.parametrize("model, samples", [("atto", 2), ("lopsided", 3), ("grey", 4), ("former", 3), ("atto-v1", 2)])
def test_gradients_under_soft_targets(model, samples, generator, record, tmp_path):
    plan = plain.Plan.of(program.summary(model))
    weights = plain.random_values(plain.classifier_shapes(plan), generator)
    images = torch.randn(samples, plan.channels, plan.height, plan.width, generator=generator)
    targets = random_targets(samples, plan.classes, generator)

    said = program.run(
        "debug", "classify", "--model", model,
        "--weights", program.save_weights(tmp_path / "w.safetensors", weights),
        "--input", program.save_images(tmp_path / "x.npy", images),
        "--targets", program.save_array(tmp_path / "t.npy", targets),
        "--grads", tmp_path / "gradients.safetensors",
    )  # fmt: skip

    parameters = {name: value.double().requires_grad_() for name, value in weights.items()}
    loss = plain.soft_cross_entropy(plain.classify(plan, parameters, images.double()), targets.double())
    loss.backward()

    against = "plain PyTorch, f64"
    found = torch.tensor(json.loads(said)["loss"])
    record("fine-tuning: loss under soft targets", against, relative(found, loss.detach()), 1e-3, model)
    gradients = {name: value.grad for name, value in parameters.items()}
    error, name = worst(program.load_weights(tmp_path / "gradients.safetensors"), gradients)
    record("fine-tuning: gradient of each parameter", against, error, 1e-3, f"{model}, {name}")


RECIPE = """
[finetune]
epochs = 5
batch = {batch}
accumulation = {accumulation}
base_lr = 0.256
warmup_epochs = 1.5
warmup_lr = 1e-5
min_lr = 1e-5
start = "scratch"
layer_decay = {{ rate = {rate}, mode = "{mode}" }}
ema = {{ decay = 0.9, warmup = {ema_warmup} }}

[optimizer]
betas = [0.9, 0.999]
weight_decay = 0.3
clip = {clip}
"""


@pytest.mark.parametrize(
    "model, mode, rate, ema_warmup, accumulation",
    [
        ("lopsided", "single", 0.7, False, 1),
        ("grouped", "group", 0.6, True, 2),
        ("former", "single", 0.9, True, 1),
        ("atto", "single", 0.9, False, 1),
    ],
)
def test_ten_steps(model, mode, rate, ema_warmup, accumulation, generator, record, tmp_path):
    """Two steps an epoch, five epochs. The clip lies among the norms: some steps are clipped, and some are not.

    Compared are each tensor, and what the steps changed in it: a tensor in the wrong group could hide in its own length.
    Of the change less can be asked: values near 1 are rounded by up to 6e-8 ten times, and the slowest layers move by 3e-4.
    """
    steps, batch = 10, 2
    plan = plain.Plan.of(program.summary(model))
    weights = plain.random_values(plain.classifier_shapes(plan), generator)
    count = 2 * batch * accumulation
    images = torch.randn(count, plan.channels, plan.height, plan.width, generator=generator)
    targets = random_targets(count, plan.classes, generator)
    unclipped = training.Settings(
        peak=0.256 * batch * accumulation / 256, start=1e-5, end=1e-5, warmup=3, total=steps, mode=mode, rate=rate,
        weight_decay=0.3, betas=(0.9, 0.999), clip=math.inf, ema=0.9, ema_warmup=ema_warmup,
        batch=batch, accumulation=accumulation,
    )  # fmt: skip
    clip = statistics.median(training.train(plan, weights, images, targets, unclipped, steps).norms)
    settings = dataclasses.replace(unclipped, clip=clip)
    recipe = tmp_path / "recipe.toml"
    text = RECIPE.format(
        batch=batch, accumulation=accumulation, rate=rate, mode=mode, clip=clip, ema_warmup=str(ema_warmup).lower()
    )
    recipe.write_text(text)

    said = program.run(
        "debug", "train", "--model", model, "--recipe", recipe, "--steps", steps,
        "--weights", program.save_weights(tmp_path / "w.safetensors", weights),
        "--input", program.save_images(tmp_path / "x.npy", images),
        "--targets", program.save_array(tmp_path / "t.npy", targets),
        "--output", tmp_path / "trained.safetensors", "--ema", tmp_path / "average.safetensors",
    )  # fmt: skip
    lines = [json.loads(line) for line in said.splitlines()]
    expected = training.train(plan, weights, images, targets, settings, steps)

    against = "torch.optim.AdamW, f64"
    clipped = sum(norm > clip for norm in expected.norms)
    assert 0 < clipped < steps, f"{clipped} steps were clipped at {clip}; the norms were {expected.norms}"
    for what, key, wanted, tolerance in [
        ("learning rates", "lr", expected.rates, 1e-12),
        ("losses", "loss", expected.losses, 1e-4),
        ("gradient norms", "norm", expected.norms, 1e-4),
    ]:
        found = torch.tensor([line[key] for line in lines], dtype=torch.float64)
        error = relative(found, torch.tensor(wanted, dtype=torch.float64))
        record(f"ten steps: {what}", against, error, tolerance, model)
    for what, file, wanted in [
        ("weights", "trained", expected.weights),
        ("moving average", "average", expected.average),
    ]:
        found = program.load_weights(tmp_path / f"{file}.safetensors")
        error, name = worst(found, wanted)
        record(f"ten steps: {what}, each tensor", against, error, 1e-4, f"{model}, {name}")
        moved = {name: value.double() - weights[name].double() for name, value in found.items()}
        should = {name: value - weights[name].double() for name, value in wanted.items()}
        error, name = worst(moved, should)
        record(f"ten steps: change of the {what}, each tensor", against, error, 2e-3, f"{model}, {name}")
