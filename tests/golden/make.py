"""Makes the golden files: what three small variants compute, by plain PyTorch in f64, stored as f32.

    tests/parity/run --golden      with the versions that tests/parity/requirements.txt pins

Each file holds weights (`weights/NAME`, in the official names), the images `[N, H, W, C]`, what is put in beside them, and
what should come out: logits, predictions, loss, gradients (`gradients/NAME`). The variants are declared in
tests/src/variants.rs; their sizes are repeated here, so that a file does not depend on the program it is held against.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))

import plain  # noqa: E402

HERE = Path(__file__).parent

LOPSIDED = plain.Plan(
    height=48, width=80, channels=3, stem=2, classes=7,
    stages=(plain.Stage(12, 1, 5), plain.Stage(20, 2), plain.Stage(36, 1, 3)),
    decoder=plain.Decoder(patch=16, visible=6, dim=24, depth=2, kernel=5),
)  # fmt: skip
GREY = plain.Plan(
    height=32, width=24, channels=1, stem=4, classes=5, stages=(plain.Stage(16, 2), plain.Stage(32, 2, 3))
)
FORMER = plain.Plan(
    height=24, width=32, channels=3, stem=4, classes=6, stages=(plain.Stage(16, 1), plain.Stage(24, 2, 5)), version=1
)


def main():
    autoencoder("lopsided-fcmae", LOPSIDED, seed=1)
    classifier("grey-classifier", GREY, seed=2)
    classifier("former-classifier", FORMER, seed=3)


def autoencoder(name: str, plan: plain.Plan, seed: int):
    generator = torch.Generator().manual_seed(seed)
    weights = plain.random_values(plain.autoencoder_shapes(plan), generator)
    images = torch.randn(2, plan.channels, plan.height, plan.width, generator=generator)
    mask = plain.random_masks(plan, len(images), generator)
    parameters = {key: value.double().requires_grad_() for key, value in weights.items()}
    predictions = plain.reconstruct(plan, parameters, images.double(), mask.double())
    loss = plain.reconstruction_loss(plan, predictions, images.double(), mask.double())
    write(name, weights, parameters, images, loss, {"mask": mask.flatten(1)}, {"predictions": predictions})


def classifier(name: str, plan: plain.Plan, seed: int):
    generator = torch.Generator().manual_seed(seed)
    weights = plain.random_values(plain.classifier_shapes(plan), generator)
    images = torch.randn(3, plan.channels, plan.height, plan.width, generator=generator)
    targets = torch.rand(len(images), plan.classes, generator=generator)
    targets /= targets.sum(-1, keepdim=True)
    parameters = {key: value.double().requires_grad_() for key, value in weights.items()}
    logits = plain.classify(plan, parameters, images.double())
    loss = plain.soft_cross_entropy(logits, targets.double())
    write(name, weights, parameters, images, loss, {"targets": targets}, {"logits": logits})


def write(name, weights, parameters, images, loss, given, expected):
    loss.backward()
    tensors = {f"weights/{key}": value for key, value in weights.items()}
    tensors |= {f"gradients/{key}": value.grad for key, value in parameters.items()}
    tensors |= {"images": images.permute(0, 2, 3, 1), "loss": loss.detach().reshape(1)} | given | expected
    tensors = {key: value.detach().float().contiguous() for key, value in tensors.items()}
    path = HERE / f"{name}.safetensors"
    save_file(tensors, path, metadata={"made by": f"tests/golden/make.py, PyTorch {torch.__version__.split('+')[0]}"})
    path.chmod(0o644)
    print(f"{path.name}: {path.stat().st_size} bytes, loss {loss.item():.6f}")


if __name__ == "__main__":
    main()
