"""Weight normalisation of a layer's matrices (Salimans & Kingma 2016, eq. 2): w = g v / ||v||, a norm per output unit.

The parametrisation is torch.nn.utils.parametrizations.weight_norm: `layer.weight` is w, and the state dict holds
`parametrizations.weight.original0`, g, and `.original1`, v. Beyond it a layer here

    starts anew     reset_parameters draws w as the layer's own does, and g = ||w||, v = w
    takes a plain   state dict: w of torch.nn's layer becomes g = ||w||, v = w, with strict=False and assign=True too
    can be pickled  torch's parametrised modules cannot

torch gives each parametrised layer a class of its own, which holds these three.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _WeightNorm, weight_norm


def normalise_weights(layer: nn.Module, names: Iterable[str], dim: int = 0) -> None:
    """Re-parametrise matrices of a layer by g and v. dim: the axis of the output units."""
    for name in names:
        weight_norm(layer, name, dim)
    layer.register_load_state_dict_pre_hook(_split_plain_weights)
    own_class: Any = type(layer)
    own_class.reset_parameters = _reset_parameters
    own_class.__reduce_ex__ = _reduce


def _plain_class(layer: Any) -> Any:
    return type(layer).__bases__[0]


def gain_of(layer: Any, name: str = "weight") -> nn.Parameter:
    """Return g of a matrix."""
    return layer.parametrizations[name].original0


@torch.no_grad()
def _reset_parameters(layer: Any) -> None:
    with parametrize.cached():  # so that the layer's own method draws into the same w that is then taken apart
        _plain_class(layer).reset_parameters(layer)
        for name in layer.parametrizations:
            setattr(layer, name, getattr(layer, name))


def _is_weight_norm(parts: Any) -> bool:
    """Return whether a matrix is re-parametrised by weight normalisation alone."""
    return len(parts) == 1 and type(parts[0]) is _WeightNorm


def _split_plain_weights(layer: Any, state_dict: dict[str, Tensor], prefix: str, *_) -> None:
    for name, parts in layer.parametrizations.items():
        if _is_weight_norm(parts) and (weight := state_dict.pop(prefix + name, None)) is not None:
            for k, part in enumerate(parts[0].right_inverse(weight)):
                state_dict[f"{prefix}parametrizations.{name}.original{k}"] = part


# --- pickling ---------------------------------------------------------------------------------------------------------


def _reduce(layer: Any, protocol: Any) -> Any:
    """Reduce to the plain layer's class and state, and g and v of each matrix."""
    if not all(map(_is_weight_norm, layer.parametrizations.values())):
        return object.__reduce_ex__(layer, protocol)  # torch's refusal: parametrisations of the user's are among them
    state = {**layer.__dict__, "_modules": {**layer._modules}}
    matrices = state["_modules"].pop("parametrizations")
    hooks = layer._load_state_dict_pre_hooks.items()
    state["_load_state_dict_pre_hooks"] = OrderedDict((k, hook) for k, hook in hooks if not _is_own(hook.hook))
    dims = {parts[0].dim for parts in matrices.values()}
    pairs = {name: (parts.original0, parts.original1) for name, parts in matrices.items()}
    return _blank, (_plain_class(layer),), (state, pairs, *dims)


def _is_own(hook: Callable) -> bool:
    """Return whether normalise_weights registered the hook, and will again. torch's, a closure, cannot be pickled."""
    return hook is _split_plain_weights or getattr(hook, "__qualname__", "").startswith("weight_norm.<locals>")


def _blank(cls: type[nn.Module]) -> nn.Module:
    """Return an instance without state. pickle hands it its state afterwards, when references to it are resolved."""
    loading: Any = type(cls.__name__, (cls,), {"__setstate__": _restore})
    return loading.__new__(loading)


def _restore(layer: Any, state: tuple[dict, dict[str, tuple[nn.Parameter, nn.Parameter]], int]) -> None:
    attributes, pairs, dim = state
    layer.__class__ = _plain_class(layer)
    layer.__setstate__(attributes)
    for name, (_, v) in pairs.items():
        layer.register_parameter(name, nn.Parameter(v.detach(), v.requires_grad))
    normalise_weights(layer, pairs, dim)
    for name, (g, v) in pairs.items():
        layer.parametrizations[name].original0, layer.parametrizations[name].original1 = g, v
