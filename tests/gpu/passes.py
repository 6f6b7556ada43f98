"""One loss and its gradients: CUDA and CPU executors against PyTorch in f64, a JSON line a case.

Weights and batch are drawn here and read by the program from safetensors; its gradients come back in the same way.
In bf16 the yardstick is what PyTorch's autocast loses on the same batch.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "parity"))
import plain  # noqa: E402
import program  # noqa: E402


def main() -> None:
    order = json.load(sys.stdin)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for model, samples in order["models"]:
        for job in ["pretrain", "finetune"]:
            with tempfile.TemporaryDirectory() as folder:
                case = Case(model, job, samples, order["device"], Path(folder))
                for dtype in ["f32", "bf16"]:
                    print(json.dumps(case.compare(dtype, order["on"])), flush=True)


class Case:
    """One batch of one job, and what is true of it."""

    def __init__(self, model: str, job: str, samples: int, device: str, folder: Path):
        self.model, self.job, self.device, self.folder = model, job, device, folder
        self.plan = plan = plain.Plan.of(program.summary(model))
        generator = torch.Generator().manual_seed(1)
        shapes = plain.autoencoder_shapes(plan) if job == "pretrain" else plain.classifier_shapes(plan)
        self.weights = plain.random_values(shapes, generator)
        self.images = torch.randn(samples, plan.channels, plan.height, plan.width, generator=generator)
        if job == "pretrain":
            self.extra = plain.random_masks(plan, samples, generator)
            inputs = {"mask": self.extra.flatten(1)}
        else:
            self.extra = torch.rand(samples, plan.classes, generator=generator).softmax(-1)
            inputs = {"targets": self.extra}
        inputs["images"] = self.images.permute(0, 2, 3, 1)
        save_file({name: value.contiguous() for name, value in inputs.items()}, folder / "inputs.safetensors")
        save_file({name: value.contiguous() for name, value in self.weights.items()}, folder / "weights.safetensors")
        self.loss, self.gradients = self.pytorch(torch.float64, autocast=False)

    def compare(self, dtype: str, on: list[str]) -> dict:
        """Losses and errors of the gradients: of all of them together, and of the worst tensor."""
        loss, gradients = self.pytorch(torch.float32, autocast=dtype == "bf16")
        sides = {"PyTorch": self.errors(loss, gradients)}
        for side in on:
            try:
                # The CPU's bf16 rounds operands only; it is compared in f32.
                loss, gradients = self.program(side, "f32" if side == "cpu" else dtype)
                sides[side] = self.errors(loss, gradients)
            except program.Failed as error:
                sides[side] = {"failed": str(error)}
        return {"model": self.model, "job": self.job, "dtype": dtype, "loss": self.loss, "sides": sides}

    def errors(self, loss: float, gradients: dict[str, torch.Tensor]) -> dict:
        if gradients.keys() != self.gradients.keys():
            raise SystemExit(f"gradients of other tensors: {gradients.keys() ^ self.gradients.keys()}")
        off = {name: (gradients[name].double() - true).norm().item() for name, true in self.gradients.items()}
        length = {name: true.norm().item() for name, true in self.gradients.items()}
        relative = {name: off[name] / length[name] if length[name] else float(off[name] > 0) for name in off}
        worst = max(relative, key=relative.get)
        whole = (sum(x * x for x in off.values()) / sum(x * x for x in length.values())) ** 0.5
        return {
            "loss": abs(loss - self.loss) / abs(self.loss),
            "gradient": whole,
            "worst": relative[worst],
            "worst_name": worst,
        }

    def program(self, side: str, dtype: str) -> tuple[float, dict[str, torch.Tensor]]:
        files = {"weights": "weights.safetensors", "inputs": "inputs.safetensors", "gradients": f"{side}.safetensors"}
        paths = {name: str(self.folder / file) for name, file in files.items()}
        order = {"do": "pass", "on": side, "job": self.job, "model": self.model, "dtype": dtype, **paths}
        loss = program.obey(order)["loss"]
        found = load_file(paths["gradients"])
        # The official layout has two shapes for some tensors.
        return loss, {name: value.reshape(self.weights[name].shape) for name, value in found.items()}

    def pytorch(self, dtype: torch.dtype, autocast: bool) -> tuple[float, dict[str, torch.Tensor]]:
        put = lambda value: value.to(self.device, dtype, copy=True)  # noqa: E731
        weights = {name: put(value).requires_grad_() for name, value in self.weights.items()}
        images, extra = put(self.images), put(self.extra)
        with torch.autocast(self.device, torch.bfloat16, enabled=autocast):
            if self.job == "pretrain":
                predictions = plain.reconstruct(self.plan, weights, images, extra)
                loss = plain.reconstruction_loss(self.plan, predictions.to(dtype), images, extra)
            else:
                loss = plain.soft_cross_entropy(plain.classify(self.plan, weights, images).to(dtype), extra)
        loss.backward()
        return loss.item(), {name: value.grad.cpu() for name, value in weights.items()}


if __name__ == "__main__":
    main()
