"""The same classifiers as timm and transformers build them, with random weights."""

import timm
import torch
from timm.models.convnext import ConvNeXt
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
)

import plain

# Images for each size: one of the largest is work enough.
SAMPLES = {"large": 1, "huge": 1}
SIZES = ["atto", "femto", "pico", "nano", "tiny", "base", "large", "huge"]


def timm_model(size: str) -> torch.nn.Module:
    return timm.create_model(f"convnextv2_{size}", pretrained=False).eval()


def timm_v1(plan: plain.Plan) -> torch.nn.Module:
    dims, depths = [stage.dim for stage in plan.stages], plan.depths
    return ConvNeXt(num_classes=plan.classes, dims=dims, depths=depths, ls_init_value=1.0).eval()


def transformers_model(plan: plain.Plan) -> torch.nn.Module:
    """For V1 or V2. The last normalisation's epsilon is the official code's: the configuration's default is 1e-12."""
    kinds = {1: (ConvNextConfig, ConvNextForImageClassification), 2: (ConvNextV2Config, ConvNextV2ForImageClassification)}
    configuration, model = kinds[plan.version]
    settings = configuration(
        num_channels=plan.channels,
        patch_size=plan.stem,
        num_stages=len(plan.stages),
        hidden_sizes=[stage.dim for stage in plan.stages],
        depths=plan.depths,
        num_labels=plan.classes,
        layer_norm_eps=plain.EPSILON,
    )
    return model(settings).eval()


def fill(model: torch.nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Gives every parameter a random value, and returns them."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    values = plain.random_values(shapes, generator)
    model.load_state_dict(values, strict=True)
    return values
