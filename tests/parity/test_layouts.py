"""Weights written in each layout and read back: bit for bit, and loaded strictly by those whose layout it is."""

import pytest
import torch

import libraries
import plain
import program


def convert(command: str, model: str, weights, layout: str, output):
    program.run(command, "--model", model, "--weights", weights, "--layout", layout, "--output", output)
    return program.load_weights(output)


def equal(found: dict, expected: dict) -> int:
    """The number of values, all of which are equal bit for bit."""
    assert set(found) == set(expected), sorted(set(found) ^ set(expected))
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        assert torch.equal(found[name].view(torch.int32), value.contiguous().view(torch.int32)), name
    return sum(value.numel() for value in expected.values())


@pytest.mark.parametrize("model", ["atto", "tiny", "atto-v1"])
def test_timm_to_ours_to_each_and_back(model, generator, record_exact, tmp_path):
    plan = plain.Plan.of(program.summary(model))
    theirs = libraries.timm_model(model)
    original = libraries.fill(theirs, generator)
    timm_file = program.save_weights(tmp_path / "timm.safetensors", original)
    ours = convert("import", model, timm_file, "ours", tmp_path / "ours.safetensors")

    for layout in ["timm", "hf", "official", "ours"]:
        written = tmp_path / f"{layout}-again.safetensors"
        exported = convert("export", model, tmp_path / "ours.safetensors", layout, written)
        back = convert("import", model, written, "ours", tmp_path / "back.safetensors")
        record_exact("weights through timm, hf, official and ours", "the original", equal(back, ours), "values")
        if layout == "timm":
            equal(exported, original)
            libraries.put(theirs, exported)
        elif layout == "hf":
            libraries.put(libraries.transformers_model(plan), exported)
        elif layout == "official":
            assert {name: tuple(value.shape) for name, value in exported.items()} == plain.classifier_shapes(plan)


@pytest.mark.parametrize("model", ["atto", "lopsided", "grey"])
def test_the_sparse_layout_of_pre_training(model, generator, record_exact, tmp_path):
    plan = plain.Plan.of(program.summary(model))
    original = plain.random_values(plain.autoencoder_shapes(plan), generator)
    dense = program.save_weights(tmp_path / "official.safetensors", original)
    sparse = convert("export", model, dense, "sparse", tmp_path / "sparse.safetensors")
    equal(densified(sparse), original)
    back = convert("import", model, tmp_path / "sparse.safetensors", "official", tmp_path / "back.safetensors")
    record_exact("pre-training weights through the sparse layout", "the original", equal(back, original), "values")


def densified(sparse: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The sparse layout as the dense one: kernels are [positions, in, out] or [positions, C], the column slower than the
    row; norms and linear layers lie a name deeper; biases and GRN's parameters have a leading axis of 1."""
    dense = {}
    for name, value in sparse.items():
        plain_name = name.replace(".linear.", ".").replace(".ln.", ".")
        if name.endswith(".kernel"):
            plain_name = name.removesuffix("kernel") + "weight"
            side = round(value.shape[0] ** 0.5)
            if value.dim() == 2:
                value = value.reshape(side, side, 1, -1).permute(3, 2, 1, 0)
            else:
                value = value.reshape(side, side, *value.shape[1:]).permute(3, 2, 1, 0)
        elif ".grn." in name:
            value = value.reshape(1, 1, 1, -1)
        elif name.endswith(".bias"):
            value = value.reshape(-1)
        dense[plain_name] = value.contiguous()
    return dense
