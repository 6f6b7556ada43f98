"""ConvNeXt (V1 and V2) and its masked autoencoder in plain PyTorch: the outside truth where no library has one.

Parameters are a dictionary in the names and shapes of the official code. Images are [N, C, H, W]. Masks are [N, rows, columns]
of patches, 1 = removed. Everything works in whatever type the parameters have; comparisons use f64.

The autoencoder is the dense form of the sparse one: cells of removed patches are set to zero before and after each
convolution, and response normalisation counts the cells that are kept, sample by sample.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

EPSILON = 1e-6


@dataclass(frozen=True)
class Stage:
    dim: int
    depth: int
    kernel: int = 7


@dataclass(frozen=True)
class Decoder:
    """The pre-training part: patch in pixels, patches that stay visible, and the blocks after them."""

    patch: int
    visible: int
    dim: int
    depth: int
    kernel: int = 7
    normalised: bool = True


@dataclass(frozen=True)
class Plan:
    """A variant."""

    height: int
    width: int
    channels: int
    stem: int
    stages: tuple[Stage, ...]
    classes: int
    version: int = 2
    decoder: Decoder | None = None

    @classmethod
    def of(cls, summary: dict) -> "Plan":
        """From what `convnext summary --json` says."""
        height, width, channels = summary["input"]
        fcmae = summary["fcmae"]
        decoder = fcmae and Decoder(
            fcmae["patch"], fcmae["visible"], **fcmae["decoder"], normalised=fcmae["normalised"]
        )
        stages = tuple(Stage(stage["dim"], stage["depth"], stage["kernel"]) for stage in summary["stages"])
        version = {"V1": 1, "V2": 2}[summary["flavour"]]
        return cls(height, width, channels, summary["stem"], stages, summary["head"]["classes"], version, decoder)

    @property
    def stride(self) -> int:
        return self.stem * 2 ** (len(self.stages) - 1)

    @property
    def patches(self) -> tuple[int, int]:
        return self.height // self.decoder.patch, self.width // self.decoder.patch

    @property
    def depths(self) -> list[int]:
        return [stage.depth for stage in self.stages]


# ---- what there is of parameters --------------------------------------------------------------------------------------


def classifier_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    last = plan.stages[-1].dim
    head = {"norm.weight": (last,), "norm.bias": (last,), "head.weight": (plan.classes, last), "head.bias": (plan.classes,)}
    return encoder_shapes(plan) | head


def autoencoder_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    decoder = plan.decoder
    shapes = {f"encoder.{name}": shape for name, shape in encoder_shapes(plan).items()}
    shapes |= convolution("proj", (decoder.dim, plan.stages[-1].dim, 1, 1))
    shapes["mask_token"] = (1, decoder.dim, 1, 1)
    for index in range(decoder.depth):
        shapes |= block_shapes(f"decoder.{index}.", Stage(decoder.dim, 1, decoder.kernel), plan.version)
    return shapes | convolution("pred", (plan.stride**2 * plan.channels, decoder.dim, 1, 1))


def encoder_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    before, shapes = plan.channels, {}
    for index, stage in enumerate(plan.stages):
        name = f"downsample_layers.{index}"
        if index == 0:
            shapes |= convolution(f"{name}.0", (stage.dim, before, plan.stem, plan.stem)) | norm(f"{name}.1", stage.dim)
        else:
            shapes |= norm(f"{name}.0", before) | convolution(f"{name}.1", (stage.dim, before, 2, 2))
        for block in range(stage.depth):
            shapes |= block_shapes(f"stages.{index}.{block}.", stage, plan.version)
        before = stage.dim
    return shapes


def block_shapes(prefix: str, stage: Stage, version: int) -> dict[str, tuple[int, ...]]:
    dim, hidden = stage.dim, 4 * stage.dim
    shapes = convolution(f"{prefix}dwconv", (dim, 1, stage.kernel, stage.kernel)) | norm(f"{prefix}norm", dim)
    shapes |= convolution(f"{prefix}pwconv1", (hidden, dim)) | convolution(f"{prefix}pwconv2", (dim, hidden))
    if version == 1:
        return shapes | {f"{prefix}gamma": (dim,)}
    return shapes | {f"{prefix}grn.gamma": (1, 1, 1, hidden), f"{prefix}grn.beta": (1, 1, 1, hidden)}


def convolution(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def norm(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def random_values(shapes: dict[str, tuple[int, ...]], generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Values under which every parameter matters and nothing grows: no zero biases, no idle normalisation.

    Knows the names of the official code, of timm and of transformers.
    """
    values = {}
    for name, shape in shapes.items():
        noise = torch.randn(tuple(shape), generator=generator)
        if "grn" in name:
            values[name] = (0.5 if name.endswith(("gamma", "weight")) else 0.1) * noise
        elif name.endswith(("gamma", "layer_scale_parameter")):
            values[name] = 0.5 + 0.2 * noise
        elif name.endswith("mask_token"):
            values[name] = 0.5 * noise
        elif name.endswith("bias"):
            values[name] = 0.1 * noise
        elif len(shape) == 1:
            values[name] = 1.0 + 0.2 * noise
        else:
            values[name] = noise / noise[0].numel() ** 0.5
    return values


# ---- what is computed -------------------------------------------------------------------------------------------------


def classify(plan: Plan, parameters: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Logits [N, classes]."""
    pooled = encode(plan, parameters, images).mean((2, 3))
    pooled = F.layer_norm(pooled, pooled.shape[-1:], parameters["norm.weight"], parameters["norm.bias"], EPSILON)
    return F.linear(pooled, parameters["head.weight"], parameters["head.bias"])


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -(targets * logits.log_softmax(-1)).sum(-1).mean()


def reconstruct(
    plan: Plan, parameters: dict[str, torch.Tensor], images: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Predictions [N, patches, patch * patch * channels] of all patches, values in the order (row, column, channel)."""
    encoder = {name.removeprefix("encoder."): value for name, value in parameters.items()}
    features = F.conv2d(encode(plan, encoder, images, mask), parameters["proj.weight"], parameters["proj.bias"])
    removed = spread(mask, features)
    features = features * (1 - removed) + parameters["mask_token"] * removed
    for index in range(plan.decoder.depth):
        features = block(parameters, f"decoder.{index}.", features)
    cells = F.conv2d(features, parameters["pred.weight"], parameters["pred.bias"])
    # A cell predicts the pixels under it; a patch may have several cells.
    samples, _, rows, columns = cells.shape
    stride = plan.stride
    cells = cells.reshape(samples, stride, stride, plan.channels, rows, columns)
    pixels = cells.permute(0, 3, 4, 1, 5, 2).reshape(samples, plan.channels, rows * stride, columns * stride)
    return patches(plan, pixels)


def reconstruction_loss(
    plan: Plan, predictions: torch.Tensor, images: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Mean squared error on removed patches, against pixels normalised patch by patch."""
    targets = patches(plan, images)
    if plan.decoder.normalised:
        mean, variance = targets.mean(-1, keepdim=True), targets.var(-1, keepdim=True, unbiased=True)
        targets = (targets - mean) / (variance + EPSILON).sqrt()
    removed = mask.flatten(1)
    return (((predictions - targets) ** 2).mean(-1) * removed).sum() / removed.sum()


def encode(
    plan: Plan, parameters: dict[str, torch.Tensor], x: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    for index, stage in enumerate(plan.stages):
        name = f"downsample_layers.{index}"
        if index == 0:
            x = convolve(parameters, f"{name}.0", x, stride=plan.stem)
            x = channel_norm(parameters, f"{name}.1", x)
        else:
            x = channel_norm(parameters, f"{name}.0", x)
            x = convolve(parameters, f"{name}.1", x, stride=2)
        visible = None if mask is None else 1 - spread(mask, x)
        x = x if visible is None else x * visible
        for number in range(stage.depth):
            x = block(parameters, f"stages.{index}.{number}.", x, visible)
    return x


def block(
    parameters: dict[str, torch.Tensor], prefix: str, x: torch.Tensor, visible: torch.Tensor | None = None
) -> torch.Tensor:
    """`visible` is [N, 1, H, W], 1 where a cell is kept."""

    def keep(values: torch.Tensor) -> torch.Tensor:
        return values if visible is None else values * visible

    def linear(name: str, values: torch.Tensor) -> torch.Tensor:
        return F.linear(values, parameters[f"{prefix}{name}.weight"], parameters[f"{prefix}{name}.bias"])

    kernel = parameters[f"{prefix}dwconv.weight"]
    bias = parameters[f"{prefix}dwconv.bias"]
    y = keep(F.conv2d(keep(x), kernel, bias, padding=kernel.shape[-1] // 2, groups=kernel.shape[0]))
    y = F.gelu(linear("pwconv1", channel_norm(parameters, f"{prefix}norm", y).permute(0, 2, 3, 1)))
    if f"{prefix}grn.gamma" in parameters:
        counted = y if visible is None else y * visible.permute(0, 2, 3, 1)
        length = (counted**2).sum((1, 2), keepdim=True).sqrt()
        share = length / (length.mean(-1, keepdim=True) + EPSILON)
        y = y + parameters[f"{prefix}grn.gamma"] * (y * share) + parameters[f"{prefix}grn.beta"]
    y = linear("pwconv2", y)
    if f"{prefix}gamma" in parameters:
        y = y * parameters[f"{prefix}gamma"]
    return keep(x + y.permute(0, 3, 1, 2))


def convolve(parameters: dict[str, torch.Tensor], name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
    return F.conv2d(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"], stride=stride)


def channel_norm(parameters: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    last = x.permute(0, 2, 3, 1)
    last = F.layer_norm(last, last.shape[-1:], parameters[f"{name}.weight"], parameters[f"{name}.bias"], EPSILON)
    return last.permute(0, 3, 1, 2)


def spread(mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A mask of patches as a mask of the cells of `x`, [N, 1, H, W]."""
    rows, columns = x.shape[2] // mask.shape[1], x.shape[3] // mask.shape[2]
    return mask.repeat_interleave(rows, 1).repeat_interleave(columns, 2).unsqueeze(1).to(x.dtype)


def patches(plan: Plan, images: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] as [N, patches, patch * patch * C]."""
    rows, columns = plan.patches
    patch = plan.decoder.patch
    cut = images.reshape(len(images), plan.channels, rows, patch, columns, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(len(images), rows * columns, -1)


def random_masks(plan: Plan, samples: int, generator: torch.Generator) -> torch.Tensor:
    """Masks [N, rows, columns] that keep as many patches as the plan says."""
    rows, columns = plan.patches
    mask = torch.ones(samples, rows * columns)
    for row in mask:
        row[torch.randperm(rows * columns, generator=generator)[: plan.decoder.visible]] = 0
    return mask.reshape(samples, rows, columns)
