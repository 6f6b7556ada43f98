"""Checkpoints as training programs save them, with what they hold beside the weights, imported value for value."""

import argparse
import collections
import datetime
import functools
import pathlib

import numpy as np
import pytest
import torch

import plain
import program


def beside() -> argparse.Namespace:
    """What arguments hold: nothing of it is a weight."""
    return argparse.Namespace(
        lr=1e-3, device=torch.device("cpu"), dtype=torch.bfloat16, size=torch.Size([2, 3]), output=pathlib.Path("runs"),
        started=datetime.datetime(2024, 5, 17), classes={1, 2}, frozen=frozenset({3}), raw=b"\xff" * 300,
        groups=collections.defaultdict(list, {"decay": [1]}), schedule=functools.partial(int, base=2), large=2**200,
        score=np.float64(0.5), table=np.arange(5), random=np.random.default_rng(1), ones=torch.ones(1).expand(5),
        sparse=torch.eye(3).to_sparse(), conjugated=torch.zeros(2, dtype=torch.complex64).conj(), text="x" * 100_000,
        counts=torch.zeros(2, dtype=torch.uint16), module=torch.nn.Linear(2, 2), undecodable="a\udcff",
    )


def official(weights, average):
    parameters = [torch.nn.Parameter(value.clone()) for value in weights.values()]
    optimizer = torch.optim.AdamW(parameters)
    sum(parameter.sum() for parameter in parameters).backward()
    optimizer.step()
    return {
        "model": weights, "optimizer": optimizer.state_dict(), "epoch": np.int64(3),
        "scaler": torch.amp.GradScaler("cpu").state_dict(), "args": beside(), "model_ema": average,
    }


def timm(weights, average):
    return {
        "epoch": 3, "arch": "convnextv2_atto", "state_dict": weights, "version": 2, "args": beside(),
        "state_dict_ema": average, "metric": np.float64(77.5),
    }


def nested(weights, average):
    return {"checkpoint": {"step": 3, "network": weights, "ema": average}, "args": beside()}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("manner", [official, timm, nested])
def test_checkpoints_of_training_programs(manner, protocol, zipped, generator, record_exact, tmp_path):
    plan = plain.Plan.of(program.summary("atto"))
    weights, average = (plain.random_values(plain.classifier_shapes(plan), generator) for _ in range(2))
    file = tmp_path / "checkpoint.pth"
    torch.save(manner(weights, average), file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)

    for arguments, expected in [([], average), (["--values", "ema"], average), (["--values", "raw"], weights)]:
        output = tmp_path / "imported.safetensors"
        program.run("import", "--model", "atto", "--weights", file, "--layout", "official", "--output", output, *arguments)
        found = program.load_weights(output)
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        values = sum(value.numel() for value in expected.values())
        record_exact("checkpoints of training programs", "torch.save", values, "values")
