"""Every normaliser behind one signature: `Norm(num_features, ..., gain, bias)(x, t)`.

x is (N, C) or (N, C, H, W), channels first, as for torch.nn.BatchNorm2d and GroupNorm; with channels_last=True it is
(..., C), and every position is a case, as for torch.nn.LayerNorm(C). t is the time step: inside a recurrence batch
normalisation keeps statistics per step, the others ignore it. Except for "none" and "wn", which leave activations
alone, each computes

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

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import UninitializedParameter

from . import ranks
from .batch_norm import BatchNorm
from .errors import ModelError
from .normaliser import NoNorm, Normalised, Normaliser
from .weight_norm import gain_of, normalise_weights


class GroupNorm(Normaliser):
    """Group normalisation (Wu & He 2018): statistics per case over C/G channels and all positions."""

    shown: ClassVar[tuple[str, ...]] = ("groups", "eps")

    def __init__(
        self,
        num_features: int,
        groups: int = 8,
        eps: float = 1e-5,
        gain: float = 1.0,
        bias: bool = True,
        channels_last: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(num_features, gain, bias, channels_last, device, dtype)
        if groups < 1 or num_features % groups:
            raise ModelError(
                f"norm.groups={groups} does not divide {num_features} channels; choose a divisor of {num_features}"
            )
        self.groups, self.eps = groups, eps

    def normalise(self, x: Tensor, t: int) -> Tensor:
        if self.groups == 1 and x.dim() == 2:  # the same values, in one faster kernel
            return F.layer_norm(x, (self.num_features,), self.weight, self.bias, self.eps)
        # torch.group_norm, not F.group_norm: the latter refuses one case with one value per group.
        return torch.group_norm(x, self.groups, self.weight, self.bias, self.eps)


class LayerNorm(GroupNorm):
    """Layer normalisation (Ba et al. 2016, eq. 3): GN(1). On feature maps over (C, H, W) with a gain per channel."""

    shown = ("eps",)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        gain: float = 1.0,
        bias: bool = True,
        channels_last: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(num_features, 1, eps, gain, bias, channels_last, device, dtype)


class InstanceNorm(GroupNorm):
    """Instance normalisation (Ulyanov et al. 2016): GN(C), the same at training and test.

    On (N, C) every statistic has a single value, so the output is the bias alone.
    """

    shown = ("eps",)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        gain: float = 1.0,
        bias: bool = True,
        channels_last: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(num_features, num_features, eps, gain, bias, channels_last, device, dtype)


class RMSNorm(Normaliser):
    """Root-mean-square normalisation (Zhang & Sennrich 2019, eq. 4): y = g * x / sqrt(mean(x^2) + eps) + b."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        gain: float = 1.0,
        bias: bool = True,
        channels_last: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(num_features, gain, bias, channels_last, device, dtype)
        self.eps = eps

    def normalise(self, x: Tensor, t: int) -> Tensor:
        return self.scale_and_shift(x / x.square().mean(tuple(range(1, x.dim())), keepdim=True).add(self.eps).sqrt())


class WeightNorm(NoNorm):
    """Weight normalisation (Salimans & Kingma 2016, eq. 2): w = g v / ||v||, one norm per output unit.

    Acts on the layer's weights (weight_norm.py); activations pass. With `data_init` the first training batch sets g and
    b such that every summed input starts with mean 0 and variance 1 over that batch: g <- g/std, b <- -mean/std (their
    section 3).

    Raises ModelError for a layer whose weights have no vector for each output unit.
    """

    waiting: Tensor

    def __init__(
        self,
        num_features: int,
        data_init: bool = False,
        channels_last: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(num_features)
        self.data_init, self.channels_last = data_init, channels_last
        # a number, since what averages buffers subtracts them
        self.register_buffer("waiting", torch.tensor(int(data_init), device=device))

    def reset_parameters(self) -> None:
        """Wait for a first batch again, if data_init asks for one."""
        self.waiting.fill_(int(self.data_init))

    def attach(self, layer):
        transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) or (transposed and layer.groups > 1):
            kind = type(layer).__name__ + (" with groups" if transposed else "")
            raise ModelError(f"norm=wn needs a weight vector for each output unit, which {kind} lacks; use norm=ln")
        if isinstance(layer.weight, UninitializedParameter):
            raise ModelError(
                f"norm=wn needs weights, which {type(layer).__name__} makes at its first batch; run one first"
            )
        if self.data_init and layer.bias is None:
            raise ModelError("norm.data_init=true sets the layer's bias, which it lacks; give the layer bias=True")
        normalise_weights(layer, ["weight"], dim=int(transposed))
        if self.data_init:
            layer.register_forward_hook(self._first_batch)
        return Normalised(layer, self)

    def _first_batch(self, layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
        """Hook on the layer: its output, again with the new g and b, so that the first batch is learnt from too."""
        if not (self.training and self.waiting):
            return None
        with torch.no_grad():
            cases = output.flatten(0, -2) if self.channels_last else output
            std, mean = ranks.std_mean(cases[None] if cases.dim() == self.case_dims else cases)
            std = std.clamp_min(1e-5)  # a unit that is constant over the batch has no scale to be given
            gain = gain_of(layer)
            gain.div_(std.view_as(gain))
            layer.bias.copy_((layer.bias - mean) / std)
            self.waiting.fill_(0)
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
