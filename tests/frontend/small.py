"""One small network per rewriting, and what it is called with. Golden files name lines of this file."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import nn

__all__ = ["NETWORKS", "REFUSED", "Branches", "Network"]


class Network(nn.Module):
    """Layers to use. `inputs` are the example arguments, with a batch of two."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 4)
        self.norm, self.up = nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 2, 2, 2)
        self.norm.running_mean, self.norm.running_var = torch.randn(4), 1 + torch.rand(4)
        self.inputs = (torch.randn(2, 4, 6, 6),)
        self.eval()


class BatchNorm(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Gates(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * torch.sigmoid(x)
        return torch.tanh(F.softplus(x)) * x


class Constants(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        table = torch.exp(torch.arange(6) / 6).flip(0)
        return torch.cat([self.conv(x * table), self.conv(x * table)], dim=1)


class Heads(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        q, k, v = self.linear(x.flatten(2).mT).view(b, -1, 2, c // 2).transpose(1, 2).repeat(1, 1, 1, 3).chunk(3, dim=-1)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c).mT.unflatten(2, (h, w))


class Einsum(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = torch.einsum("bchw,bdhw->bcd", x, x)
        return torch.einsum("bcd,bdhw->bchw", scores, torch.einsum("bihw,oi->bohw", x, self.linear.weight))


class Clock(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = torch.ones(x.shape[0], dtype=x.dtype) * 3
        return x + torch.einsum("b,i->bi", steps, torch.arange(4.0))[:, :, None, None]


class Nothing(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.dropout(x.clone().contiguous(), 0.5, self.training).to(torch.float32)
        return self.conv((x + 0) * 1.0 / 1)


class Upsampling(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(self.conv(x), size=(12, 12), mode="nearest")
        return self.up(F.pad(x, (1, 1, 1, 1), mode="reflect"))


class Statistics(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True) + 1e-5).sqrt()
        return F.instance_norm(x) - F.log_softmax(x, dim=1) + F.avg_pool2d(x, 3, 1, 1) + F.max_pool2d(x, 3, 1, 1)


class Causal(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x, x, is_causal=True)


class Unsupported(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).atan()
        x = F.conv2d(x, x.mean((0, 2, 3)).view(1, 4, 1, 1)) + x
        x = x.roll(3)
        return x.cumprod(dim=1) - x.softmax(dim=0)


class MixedBatch(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, _ = x.flatten(1).topk(3, dim=1)
        return torch.eye(x.shape[0]) @ values


class Branches(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) if x.sum() > 0 else x


class Line(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool1d(F.conv1d(x.flatten(2), self.conv.weight[:, :, 0], padding=1), 3, 2)


class Film(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv3d(x.unflatten(2, (3, 2)), self.conv.weight[:, :, None].expand(-1, -1, 2, -1, -1), padding=(0, 1, 1))


class TokensFirst(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).permute(2, 0, 1)
        return self.linear(torch.relu(self.linear(tokens)).reshape(-1, 4)).view(tokens.shape).permute(1, 2, 0)


class Places(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(x[:, [2, 0, 1]], size=(9, 12))
        x[..., ::2] = 1 - x[..., 1::2]
        return x[:, :, torch.eye(9, 12, dtype=torch.bool)]


class Weights(Network):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(x, size=(4, 6), mode="bicubic", align_corners=True)
        return torch.einsum("bchw,oc,...hw->bo", x, self.linear.weight, torch.arange(24.0).view(4, 6)) + x.cumsum(3)[..., 0, -1]


NETWORKS: dict[str, type[Network]] = {
    "a batch norm becomes a scale and a shift": BatchNorm,
    "products with their own sigmoid become silu and mish": Gates,
    "constants fold and equal nodes are shared": Constants,
    "heads are split behind the batch": Heads,
    "einsum becomes matmuls and a linear layer": Einsum,
    "what is as long as the batch is expanded from an input": Clock,
    "what changes nothing vanishes": Nothing,
    "resizing is by factors": Upsampling,
    "statistics are spelled out": Statistics,
    "a causal mask is a constant": Causal,
    "a line is a picture with one row": Line,
    "frames below a kernel are channels": Film,
    "tokens before the batch are turned for a layer": TokensFirst,
    "entries are taken by places": Places,
    "interpolation and running sums are constant matrices": Weights,
}
REFUSED: dict[str, tuple[str, type[Network]]] = {
    "unsupported operations are reported all at once": ("canonicalize", Unsupported),
    "sizes that mix the batch are reported all at once": ("trace", MixedBatch),
}
