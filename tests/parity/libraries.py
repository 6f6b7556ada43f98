"""The same classifiers as timm and transformers build them, for weights of ours to be put in."""

import timm
import torch
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
)

import plain



def timm_model(size: str) -> torch.nn.Module:
    """One of the paper's sizes, or with `-v1` after it, of the first ConvNeXt's; without values yet."""
    name = f"convnext_{size.removesuffix('-v1')}" if size.endswith("-v1") else f"convnextv2_{size}"
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False).eval()


def transformers_model(plan: plain.Plan) -> torch.nn.Module:
    """For V1 or V2; without values yet.

    The last normalisation's epsilon is the official code's: the configuration's default is 1e-12.
    """
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
    with torch.device("meta"):
        return model(settings).eval()


def fill(model: torch.nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Gives every parameter a random value, and returns them."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    values = plain.random_values(shapes, generator)
    put(model, values)
    return values


def put(model: torch.nn.Module, values: dict[str, torch.Tensor]):
    """Gives a model all its values, none missing and none left."""
    model.load_state_dict(values, strict=True, assign=True)
