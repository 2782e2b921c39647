"""Every normaliser behind one signature: `Norm(num_features, ..., gain, bias)(x, t)`.

x is (N, C) or (N, C, H, W), channels first. t is the time step: inside a recurrence batch normalisation keeps
statistics per step, the others ignore it. Except for "none" and "wn", which leave activations alone, each computes

    y = g * (x - mu) / sqrt(var + eps) + b         g: gain (C,), b: bias (C,)

and they differ only in the set of values that mu and var are taken over (Ba et al. 2016, eq. 2-4; Wu & He 2018, eq. 7):

    bn    (N, H, W)           per channel, so over the cases of a batch
    ln    (C, H, W)           per case
    gn    (C/G, H, W)         per case and group of channels; G = 1 is ln, G = C is in
    in    (H, W)              per case and channel
    rms   (C, H, W)           per case, mu = 0, the mean square in place of the variance
    wn    the weight vector   sigma = ||w_i||, mu = 0 (Ba et al. 2016, section 5.1)

To add one: a class, an entry in NORMS, configs/norm/<name>.yaml, a test against its equation.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from . import ranks
from .errors import ModelError


class Normaliser(nn.Module):
    """Base: gain g (`weight`) and bias b (`bias`) per channel.

    Args: num_features: C. gain: initial value of g. bias: whether b exists (a recurrent layer has its own).
    """

    shown: ClassVar[tuple[str, ...]] = ("eps",)  # attributes that print() tells, besides the size

    def __init__(self, num_features: int, gain: float = 1.0, bias: bool = True):
        super().__init__()
        if not math.isfinite(gain):
            raise ModelError(f"norm.gain={gain} is not finite; give a number, as 1.0")
        self.num_features = num_features
        self.weight = nn.Parameter(torch.full((num_features,), float(gain)))
        self.bias = nn.Parameter(torch.zeros(num_features)) if bias else None

    def extra_repr(self) -> str:
        options = [f"{name}={getattr(self, name)}" for name in self.shown]
        return ", ".join([str(self.num_features), *options, *(["bias=False"] if self.bias is None else [])])

    def attach(self, layer: nn.Linear | nn.Conv2d) -> nn.Sequential:
        """The layer followed by this normaliser. Its bias replaces the layer's (Ba et al. 2016, eq. 5)."""
        layer.register_parameter("bias", None)
        return nn.Sequential(layer, self)

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

    def extra_repr(self) -> str:
        return str(self.num_features)

    def attach(self, layer):
        return nn.Sequential(layer, self)

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        return x

    def over_time(self, z, start=0, cases=None):
        return self(z)  # a call, so that hooks see the summed inputs here too


class BatchNorm(Normaliser):
    """Batch normalisation; inside a recurrence with statistics of its own for every time step.

    Training uses the batch's mean and variance, evaluation the running ones (an exponential average that moves by
    `momentum` a batch). `unbiased` divides the batch's variance by n - 1 instead of n, as the paper did at batch 4
    (Ba et al. 2016, section 6.6). Row t of the running statistics belongs to step t (Cooijmans et al. 2016, section
    3); steps beyond the longest training sequence use the last row. Of a batch shared by ranks, it is the whole.
    Where sequences have several lengths, a step's batch are the cases that still run; the steps at which one is left
    take the running statistics in training too, as they were before, and do not move them.

    Raises ValueError in training when a channel has a single value.
    """

    shown = ("eps", "momentum", "unbiased")
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        unbiased: bool = False,
        gain: float = 1.0,
        bias: bool = True,
    ):
        super().__init__(num_features, gain, bias)
        if not 0 < momentum <= 1:
            raise ModelError(f"norm.momentum={momentum} is no share of a batch; give 0 < norm.momentum <= 1")
        self.eps, self.momentum, self.unbiased = eps, momentum, unbiased
        self.register_buffer("running_mean", torch.zeros(1, num_features))
        self.register_buffer("running_var", torch.ones(1, num_features))

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        if self.training and ranks.is_distributed():
            y, mean, var, n = ranks.standardise(x, self.eps, self.unbiased)
            self.track(mean, var, n, first=t)
            return self.scale_and_shift(y)
        weight, eps = self.scaled(x.numel() // self.num_features) if self.training else (self.weight, self.eps)
        if self.training and t >= len(self.running_mean):
            self._grow(t + 1)
        row = min(t, len(self.running_mean) - 1)
        mean, var = self.running_mean[row], self.running_var[row]
        # torch.batch_norm, not F.batch_norm: the latter refuses eps = 0, for which the invariances are exact.
        return torch.batch_norm(x, weight, self.bias, mean, var, self.training, self.momentum, eps, True)

    def over_time(self, z, start=0, cases=None):
        hooks = self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks
        by_step = hooks or (self.training and ranks.is_distributed())
        if cases is None and not by_step:
            return self._all_steps(z, start)
        if cases is None:
            return torch.stack([self(z_t, t) for t, z_t in enumerate(z, start)])
        alone = self.frozen()
        return torch.cat([(self if len(z_t) > 1 else alone)(z_t, t) for t, z_t in enumerate(z.split(cases), start)])

    def _all_steps(self, z: Tensor, start: int) -> Tensor:
        """`forward` of every step of z (T, N, C) in one: T*C channels."""
        T, N, C = z.shape
        weight, eps = self.scaled(N) if self.training else (self.weight, self.eps)
        if self.training and start + T > len(self.running_mean):
            self._grow(start + T)
        mean, var = (rows.reshape(-1) for rows in self.rows(T, start))  # in training views, which are moved
        bias = None if self.bias is None else self.bias.repeat(T)
        channels = z.transpose(0, 1).reshape(N, T * C)
        y = torch.batch_norm(channels, weight.repeat(T), bias, mean, var, self.training, self.momentum, eps, True)
        return y.view(N, T, C).transpose(0, 1).contiguous()

    def frozen(self):
        other = copy.copy(self)  # with the same gain and bias
        other._buffers = {name: buffer.clone() for name, buffer in self.named_buffers()}
        return other.eval()

    def require_batch(self, n: int) -> None:
        if n < 2:
            raise ValueError("batch normalisation needs at least two values per channel in training, got one")

    def scaled(self, n: int) -> tuple[Tensor, float]:
        """(gain, eps) with which the biased variance of n values normalises as the option `unbiased` asks."""
        self.require_batch(n)
        if not self.unbiased:
            return self.weight, self.eps
        # (x - mu)/sqrt(r*var + eps) = r^(-1/2) * (x - mu)/sqrt(var + eps/r)   with r = n/(n-1)
        r = n / (n - 1)
        return self.weight / r**0.5, self.eps / r

    def rows(self, T: int, start: int = 0) -> tuple[Tensor, Tensor]:
        """Running mean and variance (T, C) of T steps from `start` on; the last row stands for all steps beyond it."""
        recorded = len(self.running_mean)
        end = start + T
        row: slice | Tensor = slice(start, end)
        if end > recorded:
            row = torch.arange(start, end, device=self.running_mean.device).clamp_max(recorded - 1)
        return self.running_mean[row], self.running_var[row]

    @torch.no_grad()
    def track(self, mean: Tensor, var: Tensor, n: int | Tensor, first: int = 0) -> None:
        """Move the running statistics from row `first` on towards means and biased variances (T, C) of n values."""
        rows = slice(first, first + len(mean))
        if len(self.running_mean) < rows.stop:
            self._grow(rows.stop)
        self.running_mean[rows].lerp_(mean, self.momentum)
        self.running_var[rows].lerp_(var * (n / (n - 1)), self.momentum)

    def _grow(self, steps: int) -> None:
        new = (steps - len(self.running_mean), self.num_features)
        self.running_mean = torch.cat([self.running_mean, self.running_mean.new_zeros(new)])
        self.running_var = torch.cat([self.running_var, self.running_var.new_ones(new)])

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # The number of steps is learnt from the data, so a checkpoint may hold more or fewer rows than this layer.
        if (saved := state_dict.get(prefix + "running_mean")) is not None:
            self.running_mean = self.running_mean.new_zeros(saved.shape)
            self.running_var = self.running_var.new_ones(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


class GroupNorm(Normaliser):
    """Group normalisation (Wu & He 2018): statistics per case over C/G channels and all positions."""

    shown: ClassVar[tuple[str, ...]] = ("groups", "eps")

    def __init__(self, num_features: int, groups: int = 8, eps: float = 1e-5, gain: float = 1.0, bias: bool = True):
        super().__init__(num_features, gain, bias)
        if groups < 1 or num_features % groups:
            raise ModelError(
                f"norm.groups={groups} does not divide {num_features} channels; choose a divisor of {num_features}"
            )
        self.groups, self.eps = groups, eps

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        if self.groups == 1 and x.dim() == 2:  # the same values, in one faster kernel
            return F.layer_norm(x, (self.num_features,), self.weight, self.bias, self.eps)
        # torch.group_norm, not F.group_norm: the latter refuses one case with one value per group.
        return torch.group_norm(x, self.groups, self.weight, self.bias, self.eps)


class LayerNorm(GroupNorm):
    """Layer normalisation (Ba et al. 2016, eq. 3): GN(1). On feature maps over (C, H, W) with a gain per channel."""

    shown = ("eps",)

    def __init__(self, num_features: int, eps: float = 1e-5, gain: float = 1.0, bias: bool = True):
        super().__init__(num_features, 1, eps, gain, bias)


class InstanceNorm(GroupNorm):
    """Instance normalisation (Ulyanov et al. 2016): GN(C), the same at training and test.

    On (N, C) every statistic has a single value, so the output is the bias alone.
    """

    shown = ("eps",)

    def __init__(self, num_features: int, eps: float = 1e-5, gain: float = 1.0, bias: bool = True):
        super().__init__(num_features, num_features, eps, gain, bias)


class RMSNorm(Normaliser):
    """Root-mean-square normalisation (Zhang & Sennrich 2019, eq. 4): y = g * x / sqrt(mean(x^2) + eps) + b."""

    def __init__(self, num_features: int, eps: float = 1e-5, gain: float = 1.0, bias: bool = True):
        super().__init__(num_features, gain, bias)
        self.eps = eps

    def forward(self, x: Tensor, t: int = 0) -> Tensor:
        return self.scale_and_shift(x / x.square().mean(tuple(range(1, x.dim())), keepdim=True).add(self.eps).sqrt())


class WeightNorm(NoNorm):
    """Weight normalisation (Salimans & Kingma 2016, eq. 2): w = g v / ||v||, one norm per output unit.

    Acts on the layer's weights; activations pass. With `data_init` the first training batch sets g and b such that
    every summed input starts with mean 0 and variance 1 over that batch: g <- g/std, b <- -mean/std (their section 3).
    """

    waiting: Tensor

    def __init__(self, num_features: int, data_init: bool = False):
        super().__init__(num_features)
        self.register_buffer("waiting", torch.tensor(data_init))

    def attach(self, layer):
        weight_norm(layer)
        layer.register_forward_hook(self._first_batch)
        return nn.Sequential(layer, self)

    def _first_batch(self, layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
        """Hook on the layer: its output, again with the new g and b, so that the first batch is learnt from too."""
        if not (self.training and self.waiting):
            return None
        with torch.no_grad():
            std, mean = ranks.std_mean(output)
            std = std.clamp_min(1e-5)  # a unit that is constant over the batch has no scale to be given
            gain = layer.parametrizations.weight.original0
            gain.div_(std.view_as(gain))
            layer.bias.copy_((layer.bias - mean) / std)
            self.waiting.fill_(False)
        return layer.forward(*inputs)


@dataclass(frozen=True)
class NormEntry:
    """A normaliser's class, its name in words, and what differs inside a recurrence."""

    cls: type[Normaliser]
    title: str  # as in "layer normalisation"
    on_weights: bool = False  # acts on the weights: a recurrent layer re-parametrises its matrices with it
    recurrent: Mapping[str, float] = field(default_factory=dict)  # defaults that differ inside a recurrence
    refused_in_recurrence: str = ""


NORMS: dict[str, NormEntry] = {
    "none": NormEntry(NoNorm, "no normalisation"),
    # gain 0.1: with 1, tanh' shrinks the gradient at every step (Cooijmans et al. 2016, section 4)
    "bn": NormEntry(BatchNorm, "batch normalisation", recurrent={"gain": 0.1}),
    "ln": NormEntry(LayerNorm, "layer normalisation"),
    "wn": NormEntry(WeightNorm, "weight normalisation", on_weights=True),
    "gn": NormEntry(GroupNorm, "group normalisation"),
    "in": NormEntry(
        InstanceNorm,
        "instance normalisation",
        refused_in_recurrence="it has no positions to pool over, so each statistic would be of one value",
    ),
    "rms": NormEntry(RMSNorm, "root-mean-square normalisation"),
}
