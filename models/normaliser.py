"""What every normaliser has: gain and bias, where its channels are, and its place behind a layer."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .errors import ModelError


class Normalised(nn.Sequential):
    """A layer and its normaliser, as `norm_after` returns them; takes what the layer takes."""

    def forward(self, input: Tensor, *others: Any, **options: Any) -> Tensor:
        modules = iter(self)
        y = next(modules)(input, *others, **options)
        for module in modules:
            y = module(y)
        return y


class Normaliser(nn.Module):
    """Base: gain g (`weight`) and bias b (`bias`) per channel. A subclass computes `normalise(x, t)`, channels first.

    Args: num_features: C. gain: initial value of g. bias: whether b exists (a recurrent layer has its own).
    channels_last: x is (..., C), as a linear layer's output, and every position is a case.

    Raises ValueError for a tensor whose channels are not where they should be.
    """

    shown: ClassVar[tuple[str, ...]] = ("eps",)  # attributes that print() shows, besides the size
    case_dims: int | None = None  # axes of one case, if the layer before it is known: 3 after a Conv2d

    def __init__(
        self,
        num_features: int,
        gain: float = 1.0,
        bias: bool = True,
        channels_last: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        nn.Module.__init__(self)  # by name: BatchNorm has torch's class as a second base
        if not math.isfinite(gain):
            raise ModelError(f"norm.gain={gain} is not finite; give a number, as 1.0")
        self.num_features, self.gain, self.channels_last = num_features, float(gain), channels_last
        self.weight = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty_like(self.weight)) if bias else None
        Normaliser.reset_parameters(self)

    def reset_parameters(self) -> None:
        """Set g to its initial value and b to 0."""
        nn.init.constant_(self.weight, self.gain)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        options = [f"{name}={getattr(self, name)}" for name in self.shown]
        options += ["bias=False"] * (self.bias is None) + ["channels_last=True"] * self.channels_last
        return ", ".join([str(self.num_features), *options])

    def attach(self, layer: Any) -> Normalised:
        """The layer followed by this normaliser. Its bias replaces the layer's (Ba et al. 2016, eq. 5)."""
        layer.register_parameter("bias", None)
        return Normalised(layer, self)

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        dims = x.dim()
        if dims == 2 or not self.channels_last:
            if dims == self.case_dims:
                return self.forward(x.unsqueeze(0), t).squeeze(0)
            if dims >= 2 and x.shape[1] == self.num_features:
                return self.normalise(x, t)
            raise ValueError(
                f"expected (N, {self.num_features}) or (N, {self.num_features}, ...), got {tuple(x.shape)}: channels "
                "are axis 1; of a tensor that has them last make the normaliser with channels_last=True"
            )
        if x.shape[-1:] != (self.num_features,):
            raise ValueError(f"expected (..., {self.num_features}), got {tuple(x.shape)}: channels are last")
        return self.normalise(x.reshape(-1, self.num_features), t).view(x.shape)

    def normalise(self, x: Tensor, t: int) -> Tensor:
        """Return y of x (N, C) or (N, C, ...)."""
        raise NotImplementedError(f"{type(self).__name__} has to define normalise(x, t)")

    def scale_and_shift(self, x: Tensor) -> Tensor:
        """g * x + b, channel by channel."""
        per_channel = (-1,) + (1,) * (x.dim() - 2)
        y = x * self.weight.view(per_channel)
        return y if self.bias is None else y + self.bias.view(per_channel)

    def over_time(self, z: Tensor, start: int = 0, cases: Sequence[int] | None = None) -> Tensor:
        """z (T, N, C), all steps of a sequence at once: the same as `forward(z[t], start + t)` for every t.

        cases: of each step, where z (rows, C) holds the steps after each other.
        """
        return self(z.flatten(0, -2)).view_as(z)

    def frozen(self) -> "Normaliser":
        """This normaliser for a single case of a batch: with the running statistics of now, where it has any."""
        return self


class NoNorm(Normaliser):
    """The identity: the summed inputs as they are; the layer keeps its bias."""

    def __init__(self, num_features: int):
        nn.Module.__init__(self)
        self.num_features = num_features

    def reset_parameters(self) -> None:
        """There are none."""

    def extra_repr(self) -> str:
        return str(self.num_features)

    def attach(self, layer):
        return Normalised(layer, self)

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        return x

    def over_time(self, z, start=0, cases=None):
        return self(z)  # a call, so that hooks see the summed inputs here too
