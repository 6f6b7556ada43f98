"""One measurement of PyTorch, in a process of its own: an order as JSON on standard input, a report on standard output.

The order: job, mode, dtype, batch, threads, warmup, steps, and the program's summary of the variant.
"""

import json
import resource
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

import models

# Small enough that nothing diverges on noise.
LEARNING_RATE = 1e-5
EMA_DECAY = 0.9999


def main() -> None:
    order = json.load(sys.stdin)
    torch.set_num_threads(order["threads"])
    torch.manual_seed(1)
    before = peak_mb()
    make, prepare, inputs = JOBS[order["job"]]
    model = make(order["summary"])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    step = prepare(order, placed(order, model))
    times = [measured(step, inputs(order)) for _ in range(order["warmup"] + order["steps"])]
    report = {
        "torch": torch.__version__,
        "parameters": parameters,
        "ms": times[order["warmup"] :],
        "peak_rss_mb": peak_mb(),
        "torch_rss_mb": before,
    }
    print(json.dumps(report))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(step: Callable, inputs: tuple[torch.Tensor, ...]) -> float:
    start = time.perf_counter()
    step(*inputs)
    return (time.perf_counter() - start) * 1e3


# ---- modes ------------------------------------------------------------------------------------------------------------


def placed(order: dict, values):
    """A module or images in the memory format of the mode; torch.compile chooses formats itself."""
    return values.to(memory_format=torch.channels_last) if order["mode"] == "channels-last" else values


def compiled(order: dict, function: Callable, **options) -> Callable:
    return torch.compile(function, options=options) if order["mode"] == "compile" else function


def products(order: dict) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=order["dtype"] == "bf16")


# ---- jobs -------------------------------------------------------------------------------------------------------------


def pretrain(order: dict, model: torch.nn.Module) -> Callable:
    return training(order, model, model, betas=(0.9, 0.95))


def finetune(order: dict, model: torch.nn.Module) -> Callable:
    def loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(images), labels, label_smoothing=0.1)

    parameters = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    train = training(order, model, loss, betas=(0.9, 0.999))

    def step(*inputs: torch.Tensor) -> None:
        train(*inputs)
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - EMA_DECAY)

    return step


def training(order: dict, model: torch.nn.Module, loss: Callable, betas: tuple[float, float]) -> Callable:
    model.train()
    loss = compiled(order, loss)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas, weight_decay=0.05, fused=True)

    def step(*inputs: torch.Tensor) -> None:
        optimizer.zero_grad()
        with products(order):
            value = loss(*inputs)
        value.backward()
        optimizer.step()

    return step


def infer(order: dict, model: torch.nn.Module) -> Callable:
    # Frozen weights are constants: laid out, and cast, once.
    model = compiled(order, model.eval(), freezing=True)

    def step(images: torch.Tensor) -> None:
        with torch.inference_mode(), products(order):
            model(images)

    return step


def images(order: dict) -> torch.Tensor:
    height, width, channels = order["summary"]["input"]
    return placed(order, torch.randn(order["batch"], channels, height, width))


def images_and_masks(order: dict) -> tuple[torch.Tensor, ...]:
    return images(order), models.random_masks(order["summary"], order["batch"])


def images_and_labels(order: dict) -> tuple[torch.Tensor, ...]:
    return images(order), torch.arange(order["batch"]) % order["summary"]["head"]["classes"]


def only_images(order: dict) -> tuple[torch.Tensor, ...]:
    return (images(order),)


JOBS = {
    "pretrain": (models.Autoencoder, pretrain, images_and_masks),
    "finetune": (models.classifier, finetune, images_and_labels),
    "infer": (models.classifier, infer, only_images),
}

if __name__ == "__main__":
    main()
