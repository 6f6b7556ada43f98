"""PyTorch's side of the comparison: an order as JSON on standard input, a JSON line for each measurement.

`steps`: whole steps of one job, in every mode, of `tests/speed/models.py`. `operations`: copies, and depthwise
convolutions by cuDNN. What an optimiser does, and in which precision, is `tests/speed/measure.py`'s choice too.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).parent.parent / "speed"))
import models  # noqa: E402

# Small enough that nothing diverges on noise.
LEARNING_RATE = 1e-5
EMA_DECAY = 0.9999
MEBIBYTE = 1 << 20


def main() -> None:
    order = json.load(sys.stdin)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    report = {"steps": steps, "operations": operations}[order["measure"]]
    for line in report(order):
        print(json.dumps(line), flush=True)


def finish(order: dict) -> None:
    if order["device"] == "cuda":
        torch.cuda.synchronize()


def timed(order: dict, run: Callable, rounds: int, repeats: int = 1) -> list[float]:
    """Milliseconds of one of `repeats` runs."""
    times = []
    for _ in range(rounds):
        finish(order)
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        finish(order)
        times.append((time.perf_counter() - start) * 1e3 / repeats)
    return times


# ---- whole steps ------------------------------------------------------------------------------------------------------


def steps(order: dict):
    for mode in order["modes"]:
        try:
            yield {"mode": mode, **measured(order, mode)}
        except Exception as error:  # One mode that does not run must not cost the others.
            yield {"mode": mode, "error": f"{type(error).__name__}: {error}"[:500]}
        torch._dynamo.reset()
        gc.collect()
        if order["device"] == "cuda":
            torch.cuda.empty_cache()


def measured(order: dict, mode: str) -> dict:
    torch.manual_seed(1)
    before = torch.cuda.memory_allocated() if order["device"] == "cuda" else 0
    if order["device"] == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    make, prepare, inputs = JOBS[order["job"]]
    layout = torch.channels_last if "channels-last" in mode else torch.contiguous_format
    model = make(order["summary"]).to(order["device"], memory_format=layout)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    compiled = (lambda run: torch.compile(run, mode="max-autotune")) if "compile" in mode else (lambda run: run)
    step, given = prepare(order, model, compiled), inputs(order, layout)
    timed(order, lambda: step(*given), order["warmup"])
    prepared = time.perf_counter() - start
    times = timed(order, lambda: step(*given), order["steps"])
    peak = torch.cuda.max_memory_allocated() - before if order["device"] == "cuda" else 0
    return {"ms": times, "peak_mb": peak / MEBIBYTE, "parameters": parameters, "prepared_s": prepared}


def pretrain(order: dict, model: torch.nn.Module, compiled: Callable) -> Callable:
    return training(order, model, compiled(model), (0.9, 0.95))


def finetune(order: dict, model: torch.nn.Module, compiled: Callable) -> Callable:
    def loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(images), labels, label_smoothing=0.1)

    parameters = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    train = training(order, model, compiled(loss), (0.9, 0.999))

    def step(*inputs: torch.Tensor) -> None:
        train(*inputs)
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - EMA_DECAY)

    return step


def training(order: dict, model: torch.nn.Module, loss: Callable, betas: tuple[float, float]) -> Callable:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas, weight_decay=0.05, fused=True)

    def step(*inputs: torch.Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(order["device"], torch.bfloat16):
            value = loss(*inputs)
        value.backward()
        optimizer.step()

    return step


def infer(order: dict, model: torch.nn.Module, compiled: Callable) -> Callable:
    # Faster than autocast, which casts the weights in every step.
    model = compiled(model.eval().to(torch.bfloat16))

    def step(images: torch.Tensor) -> None:
        with torch.inference_mode():
            model(images)

    return step


def images(order: dict, layout: torch.memory_format, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    height, width, channels = order["summary"]["input"]
    drawn = torch.randn(order["batch"], channels, height, width, dtype=dtype)
    return drawn.to(order["device"], memory_format=layout)


def images_and_masks(order: dict, layout: torch.memory_format) -> tuple[torch.Tensor, ...]:
    masks = models.random_masks(order["summary"], order["batch"])
    return images(order, layout), masks.to(order["device"])


def images_and_labels(order: dict, layout: torch.memory_format) -> tuple[torch.Tensor, ...]:
    labels = torch.arange(order["batch"]) % order["summary"]["head"]["classes"]
    return images(order, layout), labels.to(order["device"])


def only_images(order: dict, layout: torch.memory_format) -> tuple[torch.Tensor, ...]:
    return (images(order, layout, torch.bfloat16),)


JOBS = {
    "pretrain": (models.Autoencoder, pretrain, images_and_masks),
    "finetune": (models.classifier, finetune, images_and_labels),
    "infer": (models.classifier, infer, only_images),
}

# ---- operations -------------------------------------------------------------------------------------------------------


def operations(order: dict):
    yield {"what": "copy", **copy(order)}
    for channels, side in order["stages"]:
        for layout in [torch.contiguous_format, torch.channels_last]:
            yield from depthwise(order, channels, side, layout)


def copy(order: dict) -> dict:
    """Bytes that are read and written by a copy on the device, and its milliseconds."""
    source = torch.randn(order["copied"], device=order["device"])
    target = torch.empty_like(source)
    timed(order, lambda: target.copy_(source), 3)
    times = timed(order, lambda: target.copy_(source), order["rounds"], order["repeats"])
    return {"ms": times, "bytes": 2 * source.numel() * source.element_size()}


def depthwise(order: dict, channels: int, side: int, layout: torch.memory_format):
    conv = torch.nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
    conv = conv.to(order["device"], torch.bfloat16, memory_format=layout)
    x = torch.randn(order["batch"], channels, side, side, dtype=torch.bfloat16)
    x = x.to(order["device"], memory_format=layout).requires_grad_()
    gradient = torch.randn_like(x)
    wanted = (x, *conv.parameters())

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return conv(x)

    out = conv(x)

    def backward() -> None:
        torch.autograd.grad(out, wanted, gradient, retain_graph=True)

    for what, run in [("depthwise-forward", forward), ("depthwise-backward", backward)]:
        timed(order, run, 3)
        times = timed(order, run, order["rounds"], order["repeats"])
        yield {"what": what, "channels": channels, "side": side, "layout": str(layout), "ms": times}


if __name__ == "__main__":
    main()
