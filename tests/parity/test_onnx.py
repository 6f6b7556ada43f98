"""Exported ONNX files in ONNX Runtime."""

import onnxruntime
import pytest
import torch

import plain
import program
from conftest import relative


@pytest.mark.parametrize("model", ["atto", "lopsided", "atto-v1"])
def test_logits(model, generator, record, tmp_path):
    plan = plain.Plan.of(program.summary(model))
    weights = plain.random_values(plain.classifier_shapes(plan), generator)
    file = program.save_weights(tmp_path / "w.safetensors", weights)
    exported = tmp_path / "model.onnx"
    program.run("export", "--model", model, "--weights", file, "--layout", "onnx", "--output", exported)

    images = torch.randn(3, plan.channels, plan.height, plan.width, generator=generator)
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    (given,), (out,) = session.get_inputs(), session.get_outputs()
    channels_last = given.shape[3] == plan.channels
    theirs = images.permute(0, 2, 3, 1).contiguous() if channels_last else images
    logits = torch.from_numpy(session.run([out.name], {given.name: theirs.numpy()})[0])
    with torch.no_grad():
        truth = plain.classify(plan, {name: value.double() for name, value in weights.items()}, images.double())
    found = program.forward(model, file, images, tmp_path)
    record("ONNX: logits in ONNX Runtime", "plain PyTorch, f64", relative(logits, truth), 1e-4, model)
    record("ONNX: logits in ONNX Runtime", "ours", relative(logits, found), 1e-4, model)
