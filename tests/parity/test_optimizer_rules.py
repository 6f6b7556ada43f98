"""What the recipes come to: a layer, a scale and a decay for each parameter; a learning rate for each step."""

import tomllib
from pathlib import Path

import pytest
import torch
from timm.scheduler import CosineLRScheduler

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
    """Value by value against timm's scheduler, and from the end of the warm-up against PyTorch's own."""
    path = RECIPES / f"{recipe}.toml"
    written = tomllib.loads(path.read_text())
    course = written.get("pretrain") or written["finetune"]
    per_step = course["batch"] * course.get("accumulation", 1)
    # Ten steps an epoch, and some images that make no whole one.
    found = program.run_json(
        "debug", "schedule", "--recipe", path, "--images", 10 * per_step + 7, "--set", "model.name=atto"
    )
    peak = course["base_lr"] * per_step / 256
    start, end = course.get("warmup_lr", 0.0), course.get("min_lr", 0.0)
    warmup, total = 10 * course.get("warmup_epochs", 0), 10 * course["epochs"]
    assert found["steps_per_epoch"] == 10 and len(found["lr"]) == total

    # In f64 both are exact to a few roundings.
    timms = CosineLRScheduler(
        sgd(peak), total - warmup, lr_min=end, warmup_t=warmup, warmup_lr_init=start, warmup_prefix=True
    )
    error = max(abs(timms._get_lr(step)[0] - lr) for step, lr in enumerate(found["lr"]))
    record("learning rate of every step of five recipes", "timm's CosineLRScheduler", error / peak, 1e-12, recipe)

    # PyTorch's is a recursion over some thousand steps.
    optimizer = sgd(peak)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - warmup, eta_min=end)
    error = 0.0
    for lr in found["lr"][warmup:]:
        error = max(error, abs(scheduler.get_last_lr()[0] - lr))
        optimizer.step()
        scheduler.step()
    record("learning rate after the warm-up", "PyTorch's CosineAnnealingLR", error / peak, 1e-9, recipe)


def sgd(lr: float) -> torch.optim.Optimizer:
    """What schedulers want to see."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
