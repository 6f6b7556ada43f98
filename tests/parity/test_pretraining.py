"""Pre-training: loss, predictions and the gradient of every parameter against a dense masked autoencoder in f64."""

import json

import pytest
import torch

import plain
import program
from conftest import relative, worst

TOLERANCE = 1e-3


@pytest.mark.parametrize("model, samples", [("atto", 2), ("lopsided", 3), ("grey", 4), ("former", 3), ("atto-wide", 2)])
def test_loss_predictions_and_gradients(model, samples, generator, record, tmp_path):
    plan = plain.Plan.of(program.summary(model))
    weights = plain.random_values(plain.autoencoder_shapes(plan), generator)
    images = torch.randn(samples, plan.channels, plan.height, plan.width, generator=generator)
    mask = plain.random_masks(plan, samples, generator)

    said = program.run(
        "debug", "fcmae", "--model", model,
        "--weights", program.save_weights(tmp_path / "w.safetensors", weights),
        "--input", program.save_images(tmp_path / "x.npy", images),
        "--mask", program.save_array(tmp_path / "m.npy", mask.flatten(1)),
        "--output", tmp_path / "predictions.npy",
        "--grads", tmp_path / "gradients.safetensors",
    )  # fmt: skip

    parameters = {name: value.double().requires_grad_() for name, value in weights.items()}
    predictions = plain.reconstruct(plan, parameters, images.double(), mask.double())
    loss = plain.reconstruction_loss(plan, predictions, images.double(), mask.double())
    loss.backward()

    against, loss = "plain PyTorch, f64", loss.detach()
    where = f"{model}, {plan.height}x{plan.width}"
    found = torch.tensor(json.loads(said)["loss"])
    record("FCMAE: loss", against, relative(found, loss), TOLERANCE, where)
    found = program.load_array(tmp_path / "predictions.npy")
    record("FCMAE: predictions", against, relative(found, predictions.detach()), TOLERANCE, where)
    gradients = {name: value.grad for name, value in parameters.items()}
    error, name = worst(program.load_weights(tmp_path / "gradients.safetensors"), gradients)
    record("FCMAE: gradient of each parameter", against, error, TOLERANCE, f"{model}, {name}")
