"""The normalisers, the recurrent layers and the networks. Knows torch, and nothing of configuration files, tracking or
data sets.

Another project installs this folder as the package `layer_normalization` (pyproject.toml) and takes from it:

    RNN, LSTM, GRU           torch.nn's layers with norm=, placement= and backend= (recurrent/cells.py)
    from_haste, from_keras   the same with weights of haste's and TensorFlow Addons' layers (recurrent/convert.py)
    AddonsLSTM               the LSTM of TensorFlow Addons, which from_keras returns
    PLACEMENTS               where in a recurrent layer a normaliser can stand
    NORMS                    the table of normalisers, by name
    make_norm, norm_after    a normaliser for a number of channels; a linear, convolutional or embedding layer with one
    NormLayer                the normaliser of a whole network, in place of a name and options (create_norm.py)
    BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm, WeightNorm    the normalisers as modules (norms.py)
    load                     a network that `python -m experiments.export` wrote, from its folder (exported.py)
    ModelError               what each of them raises when it cannot be built as asked: a ValueError of one line

All else may change between versions. Importing the package alone loads no torch: each name brings its module when it
is first asked for. `models.build` makes the networks of the experiments.
"""

import importlib
from typing import TYPE_CHECKING

from .errors import ModelError

if TYPE_CHECKING:
    from .create_norm import NormLayer, make_norm, norm_after
    from .exported import load
    from .norms import (
        NORMS,
        BatchNorm,
        GroupNorm,
        InstanceNorm,
        LayerNorm,
        RMSNorm,
        WeightNorm,
    )
    from .recurrent import GRU, LSTM, PLACEMENTS, RNN, AddonsLSTM, from_haste, from_keras

__all__ = [
    "GRU",
    "LSTM",
    "NORMS",
    "PLACEMENTS",
    "RNN",
    "AddonsLSTM",
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "ModelError",
    "NormLayer",
    "RMSNorm",
    "WeightNorm",
    "from_haste",
    "from_keras",
    "load",
    "make_norm",
    "norm_after",
]

MODULE_OF = {
    **dict.fromkeys(("GRU", "LSTM", "PLACEMENTS", "RNN", "AddonsLSTM", "from_haste", "from_keras"), ".recurrent"),
    **dict.fromkeys(("NormLayer", "make_norm", "norm_after"), ".create_norm"),
    "load": ".exported",
}


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(MODULE_OF.get(name, ".norms"), __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
