"""The weights of a recurrent layer: names and shapes as torch.nn has them, their start, and their way in and out."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..create_norm import norm_entry
from ..errors import ModelError
from ..norms import Normaliser


class RecurrentWeights(nn.Module):
    """Base of layer.Recurrent, which makes the parameters: what torch.nn's layers have beside constructor and call."""

    cell: ClassVar[str]
    gates: ClassVar[int]
    num_states: ClassVar[int] = 1  # 2 for the LSTM: h and c
    suffixes: list[str]  # of the parameters of each layer and direction
    input_size: int
    hidden_size: int
    proj_size: int
    bias: bool
    norm: str

    def _shapes(self, inputs: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of one layer's and direction's parameters, in torch.nn's order."""
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, self.state_sizes[0])}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        return shapes

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Units of h, and of an LSTM's c."""
        return (self.proj_size or self.hidden_size, self.hidden_size)[: self.num_states]

    @property
    def weight_names(self) -> list[str]:
        """Names of the matrices, input and recurrent, of every layer and direction."""
        matrices = [name for name in self._shapes(0) if name.startswith("weight")]
        return [name + suffix for suffix in self.suffixes for name in matrices]

    @property
    def mode(self) -> str:
        """torch.nn's name of the cell: LSTM, GRU, RNN_TANH or RNN_RELU."""
        return self.cell.upper()

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The weights and biases of each layer and direction; the matrices as they act, also with norm="wn"."""
        return [[getattr(self, name + suffix) for name in self._shapes(0)] for suffix in self.suffixes]

    def flatten_parameters(self) -> None:
        """Do nothing: no kernel here wants the weights in one block."""

    def torch_state_dict(self) -> dict[str, Tensor]:
        """Return the state dict of torch.nn's layer with the same function; of norm="wn" its matrices are g v/||v||.

        Raises ModelError for a normaliser of activations, which torch.nn's layer lacks.
        """
        if self.norm != "none" and not norm_entry(self.norm).on_weights:
            raise ModelError(f"norm={self.norm} has no place in torch.nn.{type(self).__name__}; only none and wn have")
        names = [name + suffix for suffix in self.suffixes for name in self._shapes(0)]
        return {name: getattr(self, name).detach() for name in names}

    def reset_parameters(self) -> None:
        """Initialise weights and biases as torch.nn does, uniform in +-1/sqrt(H), and every normaliser."""
        bound = 1 / math.sqrt(self.hidden_size)  # as torch.nn rounds it
        for weights in self.all_weights:
            for weight in weights:
                nn.init.uniform_(weight, -bound, bound)
        for module in self.modules():
            if isinstance(module, Normaliser):
                module.reset_parameters()

    @torch.no_grad()
    def assign(self, name: str, value: Tensor) -> None:
        """Set a matrix by its torch.nn name, whether or not weight normalisation re-parametrises it."""
        if nn.utils.parametrize.is_parametrized(self, name):
            setattr(self, name, torch.empty_like(getattr(self, name)).copy_(value))
        else:
            getattr(self, name).copy_(value)

    def extra_repr(self) -> str:
        """Return sizes and whatever differs from the defaults, as torch.nn's layers print themselves."""
        defaults: dict[str, Any] = {"proj_size": 0, "num_layers": 1, "nonlinearity": "tanh", "bias": True}
        defaults |= {"batch_first": False, "dropout": 0.0, "bidirectional": False}
        defaults |= {"norm": "none", "norm_options": {}, "placement": "paper", "backend": "auto"}
        defaults["recompute"] = False
        given = {name: getattr(self, name, default) for name, default in defaults.items()}
        changed = [f"{name}={value}" for name, value in given.items() if value != defaults[name]]
        return ", ".join([str(self.input_size), str(self.hidden_size), *changed])

    def __repr__(self) -> str:
        """Return sizes and normalisers, without the places that have none; one line without a normaliser."""
        lines = [line for line in super().__repr__().splitlines() if ": NoNorm(" not in line]
        return "".join(line.strip() for line in lines) if len(lines) == 3 else "\n".join(lines)
