"""What the recipes come to: a layer, a scale and a decay for each parameter; a learning rate for each step."""

import tomllib
from pathlib import Path

import pytest
import torch

import plain
import program
import training

RECIPES = Path(__file__).parents[2] / "cli" / "recipes"


def official_group(name: str) -> int:
    """The official numbering for depths 3, 3, 27, 3, and for no others: twelve layers between the stem and the head."""
    parts = name.split(".")
    if parts[0] == "downsample_layers":
        return [0, 2, 3, 12][int(parts[1])]
    if parts[0] == "stages":
        return {0: 1, 1: 2, 2: 3 + int(parts[2]) // 3, 3: 12}[int(parts[1])]
    return 13


def official_single(name: str, depths: list[int]) -> int:
    """The official numbering with a layer for each block."""
    parts = name.split(".")
    if parts[0] == "downsample_layers":
        return sum(depths[: int(parts[1])]) + 1
    if parts[0] == "stages":
        return sum(depths[: int(parts[1])]) + int(parts[2]) + 1
    return sum(depths) + 1


@pytest.mark.parametrize(
    "model, recipe, mode", [("atto", "atto", "single"), ("base", "base", "single"), ("base", "base", "group")]
)
def test_layer_decay(model, recipe, mode, record_exact):
    plan = plain.Plan.of(program.summary(model))
    path = RECIPES / f"finetune-{recipe}.toml"
    rate = tomllib.loads(path.read_text())["finetune"]["layer_decay"]["rate"]
    found = program.run_json(
        "debug", "groups", "--model", model, "--recipe", path,
        "--set", f'finetune.layer_decay={{ rate = {rate}, mode = "{mode}" }}',
    )  # fmt: skip
    shapes = plain.classifier_shapes(plan)
    number = official_group if mode == "group" else lambda name: official_single(name, plan.depths)
    assert {row["official"]: tuple(row["shape"]) for row in found} == shapes
    last = number("head.weight")
    for row in found:
        name = row["official"]
        assert row["layer"] == number(name) == training.layer(name, plan.depths, mode), name
        assert row["lr_scale"] == pytest.approx(rate ** (last - number(name)), rel=1e-14), name
        assert row["decays"] == training.decays(name, shapes[name]), name
    record_exact(
        "layer decay and weight-decay groups (Atto, Base; single, group)", "the official rule", len(found), "parameters"
    )


def test_pre_training_decays_the_right_ones(record_exact):
    plan = plain.Plan.of(program.summary("atto"))
    shapes = plain.autoencoder_shapes(plan)
    found = program.run_json("debug", "groups", "--model", "atto", "--recipe", RECIPES / "pretrain.toml")
    assert {row["official"]: tuple(row["shape"]) for row in found} == shapes
    for row in found:
        assert row["lr_scale"] == 1.0, row["official"]
        assert row["decays"] == training.decays(row["official"], shapes[row["official"]]), row["official"]
    record_exact("weight-decay groups in pre-training (Atto)", "the rule", len(found), "parameters")


@pytest.mark.parametrize("recipe", ["pretrain", "finetune-atto", "finetune-tiny", "finetune-base", "finetune-huge"])
def test_schedule(recipe, record):
    """Value by value against the formula, and from the end of the warm-up against PyTorch's own scheduler."""
    path = RECIPES / f"{recipe}.toml"
    written = tomllib.loads(path.read_text())
    course = written.get("pretrain") or written["finetune"]
    per_step = course["batch"] * course.get("accumulation", 1)
    # Ten steps an epoch, and some images that make no whole one.
    found = program.run_json(
        "debug", "schedule", "--recipe", path, "--images", 10 * per_step + 7, "--set", "model.name=atto"
    )
    peak = course["base_lr"] * per_step / 256
    settings = training.Settings(
        peak=peak, start=course.get("warmup_lr", 0.0), end=course.get("min_lr", 0.0),
        warmup=10 * course.get("warmup_epochs", 0), total=10 * course["epochs"],
        mode="single", rate=1.0, weight_decay=0.0, betas=(0.9, 0.999), clip=1.0, ema=0.0, ema_warmup=False,
        batch=1, accumulation=1,
    )  # fmt: skip
    assert found["steps_per_epoch"] == 10 and len(found["lr"]) == settings.total
    error = max(abs(training.learning_rate(settings, step) - lr) for step, lr in enumerate(found["lr"]))
    record("learning rate of every step of five recipes", "the formula", error / peak, 1e-12, recipe)

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=settings.total - settings.warmup, eta_min=settings.end
    )
    error = 0.0
    for lr in found["lr"][settings.warmup :]:
        error = max(error, abs(scheduler.get_last_lr()[0] - lr))
        optimizer.step()
        scheduler.step()
    # PyTorch's is a recursion over some thousand steps.
    record("learning rate after the warm-up", "CosineAnnealingLR", error / peak, 1e-9, recipe)
