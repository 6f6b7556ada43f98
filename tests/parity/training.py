"""Fine-tuning's optimiser side as a plain loop around `torch.optim.AdamW`: groups, schedule, clipping, average.

The numbering of layers is the official rule in the official names; it is written here from its description, not from
the program.
"""

import math
from dataclasses import dataclass

import torch

import plain


@dataclass(frozen=True)
class Settings:
    """Learning rates are absolute, warm-up and total in steps."""

    peak: float
    start: float
    end: float
    warmup: int
    total: int
    mode: str
    rate: float
    weight_decay: float
    betas: tuple[float, float]
    clip: float
    ema: float
    ema_warmup: bool
    batch: int
    accumulation: int


@dataclass
class Trained:
    weights: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    rates: list[float]
    losses: list[float]
    norms: list[float]


def learning_rate(settings: Settings, step: int) -> float:
    """Linear from `start` to `peak`, then half a cosine down to `end`."""
    if step < settings.warmup:
        return settings.start + (settings.peak - settings.start) * step / settings.warmup
    progress = (step - settings.warmup) / (settings.total - settings.warmup)
    return settings.end + (settings.peak - settings.end) * (1 + math.cos(math.pi * progress)) / 2


def layer(name: str, depths: list[int], mode: str) -> int:
    """The number of a parameter's layer, counted from the input.

    single: each block is a layer, from 1 on; a downsample, the stem being the first, belongs to its stage's first block.
    group: three blocks of a stage are a layer; a downsample belongs to its stage's first; the stem is layer 0.
    What is behind the encoder is one layer more.
    """
    size = {"single": 1, "group": 3}[mode]
    before = lambda stage: sum(math.ceil(depth / size) for depth in depths[:stage])  # noqa: E731
    parts = name.split(".")
    if parts[0] == "downsample_layers":
        stage = int(parts[1])
        return 0 if mode == "group" and stage == 0 else before(stage) + 1
    if parts[0] == "stages":
        return before(int(parts[1])) + int(parts[2]) // size + 1
    return before(len(depths)) + 1


def decays(name: str, shape: tuple[int, ...]) -> bool:
    """Convolutions and linear layers do; biases, norms, GRN, LayerScale and the mask token do not."""
    return len(shape) > 1 and ".grn." not in name and not name.endswith("mask_token")


def lr_scale(name: str, depths: list[int], mode: str, rate: float) -> float:
    return rate ** (layer("head.weight", depths, mode) - layer(name, depths, mode))


def train(
    plan: plain.Plan,
    weights: dict[str, torch.Tensor],
    images: torch.Tensor,
    targets: torch.Tensor,
    settings: Settings,
    steps: int,
) -> Trained:
    """All in f64."""
    images, targets = images.double(), targets.double()
    parameters = {name: value.double().requires_grad_() for name, value in weights.items()}
    groups = [
        {
            "params": [value],
            "weight_decay": settings.weight_decay if decays(name, tuple(value.shape)) else 0.0,
            "scale": lr_scale(name, plan.depths, settings.mode, settings.rate),
        }
        for name, value in parameters.items()
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, eps=1e-8)
    average = {name: value.detach().clone() for name, value in parameters.items()}
    trained = Trained({}, average, [], [], [])
    per_step = settings.batch * settings.accumulation
    for step in range(steps):
        rate = learning_rate(settings, step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        optimizer.zero_grad()
        first = step * per_step % len(images)
        losses = []
        for batch in range(settings.accumulation):
            taken = slice(first + batch * settings.batch, first + (batch + 1) * settings.batch)
            loss = plain.soft_cross_entropy(plain.classify(plan, parameters, images[taken]), targets[taken])
            (loss / settings.accumulation).backward()
            losses.append(loss.item())
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), settings.clip)
        optimizer.step()
        decay = min(settings.ema, (step + 2) / (step + 11)) if settings.ema_warmup else settings.ema
        for name, value in parameters.items():
            average[name].mul_(decay).add_(value.detach(), alpha=1 - decay)
        trained.rates.append(rate)
        trained.losses.append(sum(losses) / len(losses))
        trained.norms.append(norm.item())
    trained.weights = {name: value.detach() for name, value in parameters.items()}
    return trained
