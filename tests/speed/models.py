"""ConvNeXt V2 and its masked autoencoder as ordinary PyTorch modules, made from what `convnext summary --json` says.

Images are [N, C, H, W]. Masks are [N, rows, columns] of patches, 1 = removed. Blocks are the official code's: a depthwise
convolution over channels first, the rest over channels last. What is written differently from there (response
normalisation as one multiplication and one addition, small tensors cast to the type of the large one) is the same function
and faster.
"""

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-6
# The sizes that timm has.
PAPER = ["atto", "femto", "pico", "nano", "tiny", "base", "large", "huge"]


def classifier(summary: dict) -> nn.Module:
    """timm's, where it has the variant."""
    if summary["name"] not in PAPER:
        return Classifier(summary)
    import timm  # Here, because its import takes memory that is measured.

    return timm.create_model(f"convnextv2_{summary['name']}", pretrained=False, drop_path_rate=summary["drop_path"])


class ResponseNorm(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(dim))
        self.beta = nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor, visible: torch.Tensor | None) -> torch.Tensor:
        """`x` and `visible` are [N, H, W, C] and [N, H, W, 1]; only visible cells count."""
        counted = x if visible is None else x * visible
        length = torch.linalg.vector_norm(counted, dim=(1, 2), keepdim=True)
        share = length / (length.mean(-1, keepdim=True) + EPSILON)
        return torch.addcmul(self.beta.to(x.dtype), x, (1 + self.gamma * share).to(x.dtype))


class DropPath(nn.Module):
    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = 1 - self.rate
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(kept).div_(kept)


class Block(nn.Module):
    def __init__(self, dim: int, kernel: int, drop_path: float = 0.0):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, EPSILON)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.grn = ResponseNorm(4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """`visible` is [N, 1, H, W], 1 where a cell is kept."""
        y = self.dwconv(x) if visible is None else self.dwconv(x * visible) * visible
        y = F.gelu(self.pwconv1(self.norm(y.permute(0, 2, 3, 1))))
        y = self.pwconv2(self.grn(y, None if visible is None else visible.permute(0, 2, 3, 1)))
        return x + self.drop_path(y.permute(0, 3, 1, 2))


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of [N, C, H, W]."""

    def __init__(self, dim: int):
        super().__init__(dim, EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Encoder(nn.Module):
    def __init__(self, summary: dict, drop_path: bool):
        super().__init__()
        self.downsample_layers, self.stages = nn.ModuleList(), nn.ModuleList()
        before, stem = summary["input"][2], summary["stem"]
        for index, stage in enumerate(summary["stages"]):
            dim = stage["dim"]
            if index == 0:
                layers = [nn.Conv2d(before, dim, stem, stem), ChannelNorm(dim)]
            else:
                layers = [ChannelNorm(before), nn.Conv2d(before, dim, 2, 2)]
            rates = stage["drop_path"] if drop_path else [0.0] * stage["depth"]
            self.downsample_layers.append(nn.Sequential(*layers))
            self.stages.append(nn.ModuleList(Block(dim, stage["kernel"], rate) for rate in rates))
            before = dim

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        for downsample, blocks in zip(self.downsample_layers, self.stages):
            x = downsample(x)
            visible = None if mask is None else 1 - spread(mask, x)
            for block in blocks:
                x = block(x, visible)
        return x


class Classifier(nn.Module):
    def __init__(self, summary: dict):
        super().__init__()
        dim = summary["stages"][-1]["dim"]
        self.encoder = Encoder(summary, drop_path=True)
        self.norm = nn.LayerNorm(dim, EPSILON)
        self.head = nn.Linear(dim, summary["head"]["classes"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.encoder(images).mean((2, 3))))


class Autoencoder(nn.Module):
    """The dense form of the sparse one: removed cells are zero before and after each convolution of the encoder."""

    def __init__(self, summary: dict):
        super().__init__()
        fcmae = summary["fcmae"]
        if fcmae["cells"][-1] != 1:
            raise ValueError("patches of several cells are not written here")
        decoder = fcmae["decoder"]
        self.patch, self.normalised = fcmae["patch"], fcmae["normalised"]
        self.encoder = Encoder(summary, drop_path=False)
        self.proj = nn.Conv2d(summary["stages"][-1]["dim"], decoder["dim"], 1)
        self.mask_token = nn.Parameter(torch.zeros(1, decoder["dim"], 1, 1))
        blocks = (Block(decoder["dim"], decoder["kernel"]) for _ in range(decoder["depth"]))
        self.decoder = nn.Sequential(*blocks)
        self.pred = nn.Conv2d(decoder["dim"], fcmae["values"], 1)

    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The loss: mean squared error on removed patches."""
        x = self.proj(self.encoder(images, mask))
        removed = spread(mask, x)
        x = x * (1 - removed) + self.mask_token.to(x.dtype) * removed
        predictions = self.pred(self.decoder(x)).flatten(2).transpose(1, 2)
        errors = ((predictions.float() - self.targets(images)) ** 2).mean(-1)
        return (errors * mask.flatten(1)).sum() / mask.sum()

    def targets(self, images: torch.Tensor) -> torch.Tensor:
        """[N, patches, values], the values of a patch in the order (row, column, channel)."""
        samples, channels, height, width = images.shape
        rows, columns = height // self.patch, width // self.patch
        cut = images.reshape(samples, channels, rows, self.patch, columns, self.patch)
        patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(samples, rows * columns, -1)
        if not self.normalised:
            return patches
        variance, mean = torch.var_mean(patches, -1, keepdim=True)
        return (patches - mean) / (variance + EPSILON).sqrt()


def spread(mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A mask of patches as a mask of the cells of `x`, [N, 1, H, W], in its type."""
    rows, columns = x.shape[2] // mask.shape[1], x.shape[3] // mask.shape[2]
    return mask.repeat_interleave(rows, 1).repeat_interleave(columns, 2).unsqueeze(1).to(x.dtype)


def random_masks(summary: dict, samples: int) -> torch.Tensor:
    fcmae = summary["fcmae"]
    order = torch.rand(samples, fcmae["patches"]).argsort(1)
    return (order >= fcmae["visible"]).float().reshape(samples, *fcmae["grid"])
