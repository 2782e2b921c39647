"""From a name and options to a normaliser: for a number of channels, after a layer, or for a whole network."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .errors import ModelError, must_be_one_of
from .norms import NORMS, Normaliser, NormEntry

FIXED_BY_THE_LAYER = ("num_features", "bias")  # arguments of a constructor that are no options


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

    def after(self, layer: nn.Linear | nn.Conv2d) -> nn.Sequential:
        """Return the layer with a normaliser on its summed inputs. Raises what `make_norm` raises."""
        return norm_after(layer, self.name, self.options)


def norm_entry(name: str) -> NormEntry:
    """Return the table's entry. Raises ModelError with the nearest name when there is none."""
    must_be_one_of("norm", name, NORMS)
    return NORMS[name]


def make_norm(name: str, num_features: int, options: Mapping | None = None, **fixed) -> Normaliser:
    """Return a normaliser for `num_features` channels.

    options: as in configs/norm/<name>.yaml; None means the default. fixed: arguments that the layer sets (bias), where
    the normaliser has them. Raises ModelError for an unknown name, an unknown option or a value of another type.
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
    return cls(num_features, **chosen, **{key: value for key, value in fixed.items() if key in arguments})


def _is_of(value: Any, kind: type) -> bool:
    """Return whether a value fits an option's type; a whole number is a number, True is none."""
    return type(value) in ((int, float) if kind is float else (kind,))


def norm_after(layer: nn.Linear | nn.Conv2d, name: str, options: Mapping | None = None) -> nn.Sequential:
    """Return the layer with a normaliser on its summed inputs, (N, C) or (N, C, H, W), before the non-linearity."""
    features = layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
    return make_norm(name, features, options).attach(layer)
