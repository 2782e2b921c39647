"""Where a recurrent network starts, the same for every normaliser and for every task."""

import torch
from torch import nn

from .recurrent import Recurrent

# Mean square of an un-normalised layer's outputs at the start, measured over 64 steps of summed inputs of variance 1:
# what the layer above gets. Normalised layers differ by less than a factor of 2, and forget the scale.
OUTPUT_SQUARE = {"rnn": 0.47, "lstm": 0.06, "gru": 0.18}


def init_recurrent(recurrent: Recurrent, input_squares: float, input_scale: float, forget_bias: float) -> None:
    """Orthogonal recurrent matrix for each gate, W_x x of standard deviation `input_scale`, biases 0.

    input_squares: the sum of x^2 over the inputs of the first layer. forget_bias: start of the LSTM's forget gate bias,
    which the other cells lack.
    """
    H = recurrent.hidden_size
    for name in recurrent.weight_names:
        weight = torch.empty_like(getattr(recurrent, name))
        if "weight_hh" in name:
            for gate in weight.split(H):
                nn.init.orthogonal_(gate)
        else:
            # Var(W_x x) = var(W) * sum of x^2 over the inputs: make it input_scale^2.
            squares = input_squares if name.endswith("_l0") else weight.shape[1] * OUTPUT_SQUARE[recurrent.cell]
            nn.init.normal_(weight, std=input_scale / squares**0.5)
        recurrent.assign(name, weight)
    for name, parameter in recurrent.named_parameters(recurse=False):
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
            if name.startswith("bias_ih") and recurrent.cell == "lstm":
                nn.init.constant_(parameter[H : 2 * H], forget_bias)


def init_output(layer: nn.Linear) -> None:
    """Logits no larger than the state that they are read from."""
    nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    nn.init.zeros_(layer.bias)
