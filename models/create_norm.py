"""From a name and options to a normaliser: for a number of channels, after a layer, or for a whole network."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .errors import ModelError, must_be_one_of
from .normaliser import Normalised, Normaliser
from .norms import NORMS, NormEntry

# Arguments of a constructor that are no options.
FIXED_BY_THE_LAYER = ("num_features", "bias", "channels_last", "device", "dtype")


@dataclass(frozen=True)
class NormLayer:
    """The normaliser of a network: what its layers are handed in place of a name and options.

    name: a key of NORMS. options: as in configs/norm/<name>.yaml; None means the default.
    """

    name: str = "none"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, num_features: int, **fixed) -> Normaliser:
        """Return a normaliser for `num_features` channels. Raises what `make_norm` raises."""
        return make_norm(self.name, num_features, self.options, **fixed)

    def after(self, layer: nn.Module) -> Normalised:
        """Return the layer with a normaliser on its summed inputs. Raises what `norm_after` raises."""
        return norm_after(layer, self.name, self.options)


def norm_entry(name: str) -> NormEntry:
    """Return the table's entry. Raises ModelError with the nearest name when there is none."""
    must_be_one_of("norm", name, NORMS)
    return NORMS[name]


def make_norm(
    name: str,
    num_features: int,
    options: Mapping | None = None,
    *,
    bias: bool = True,
    channels_last: bool = False,
    device: Any = None,
    dtype: torch.dtype | None = None,
) -> Normaliser:
    """Return a normaliser for `num_features` channels, the second axis of its input, or the last with channels_last.

    options: as in configs/norm/<name>.yaml; None means the default. bias: whether the normaliser has one of its own.
    Raises ModelError for an unknown name, an unknown option or a value of another type.
    """
    cls = norm_entry(name).cls
    arguments = inspect.signature(cls).parameters
    chosen = {key: value for key, value in (options or {}).items() if value is not None}
    for key, value in chosen.items():
        if key not in arguments or key in FIXED_BY_THE_LAYER:
            options_of_norm = [argument for argument in arguments if argument not in FIXED_BY_THE_LAYER]
            raise ModelError(f"norm={name} has no option {key}; it has: {', '.join(options_of_norm) or 'none'}")
        kind = arguments[key].annotation
        if not _is_of(value, kind):
            raise ModelError(f"norm.{key}={value} is not of type {kind.__name__}; give norm={name} one")
    if chosen.get("eps", 0) < 0:
        raise ModelError(f"norm.eps={chosen['eps']} is negative; give 0 or a small number above it")
    fixed: dict[str, Any] = {"bias": bias, "channels_last": channels_last, "device": device, "dtype": dtype}
    norm = cls(num_features, **chosen, **{key: value for key, value in fixed.items() if key in arguments})
    norm.channels_last = channels_last
    if "device" in arguments or (device is None and dtype is None):
        return norm
    return norm.to(device=device, dtype=dtype)  # a class that takes neither


def _is_of(value: Any, kind: type) -> bool:
    """Return whether a value fits an option's type; a whole number is a number, True is none."""
    return type(value) in ((int, float) if kind is float else (kind,))


def norm_after(
    layer: nn.Module, name: str, options: Mapping | None = None, *, device: Any = None, dtype: torch.dtype | None = None
) -> Normalised:
    """Return the layer with a normaliser on its summed inputs, before the non-linearity.

    Of a convolution, (N, C, ...) or one case (C, ...), the channels are the second axis, and the statistics are over
    the positions too. Of Linear, Bilinear and Embedding, (..., C), they are the last, and every position is a case: ln
    is then torch.nn.LayerNorm(C), bn torch.nn.BatchNorm1d over all positions. device, dtype: the layer's, if not given.

    Raises what `make_norm` raises, and ModelError for another kind of layer.
    """
    features, case_dims = _output_of(layer)
    weight: Any = layer.weight
    place = {"device": device or weight.device, "dtype": dtype or weight.dtype}
    norm = make_norm(name, features, options, channels_last=case_dims is None, **place)
    norm.case_dims = case_dims
    return norm.attach(layer)


def _output_of(layer: Any) -> tuple[int, int | None]:
    """Return a layer's number of channels, and the axes of one case, or None where the channels are the last axis."""
    if isinstance(layer, nn.modules.conv._ConvNd):
        return layer.out_channels, 1 + len(layer.kernel_size)
    if isinstance(layer, (nn.Linear, nn.Bilinear)):
        return layer.out_features, None
    if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        return layer.embedding_dim, None
    raise ModelError(
        f"norm_after does not know where {type(layer).__name__} has its channels: it takes Linear, Bilinear, Embedding "
        "and convolutions; put make_norm(name, channels, channels_last=...) after another layer"
    )
