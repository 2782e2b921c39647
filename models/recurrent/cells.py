"""RNN, LSTM and GRU with a choice of normalisation: drop-in for torch.nn.RNN, torch.nn.LSTM and torch.nn.GRU."""

from typing import Any

import torch

from .equations import gru_step, lstm_step, rnn_relu_step, rnn_step
from .layer import Recurrent


class RNN(Recurrent):
    """Recurrence of eq. 4: h_t = tanh( LN(W_hh h_{t-1} + W_xh x_t) + b ), or relu, which runs by the reference."""

    cell = "rnn"
    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity={nonlinearity} is unknown; choose tanh or relu")
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(*sizes, bias, batch_first, dropout, bidirectional, proj_size, device, dtype, **options)
        self.nonlinearity = nonlinearity
        if nonlinearity == "relu":
            self.unfused = "the kernels know the tanh recurrence alone"

    @property
    def mode(self) -> str:
        return f"RNN_{self.nonlinearity.upper()}"

    @property
    def step(self):
        return rnn_relu_step if self.nonlinearity == "relu" else rnn_step

    def _paper_spans(self, gates, H):
        return {"sum": gates}

    @staticmethod
    def _fold_biases(x, b_ih, b_hh):
        return x, b_ih + b_hh


class LSTM(Recurrent):
    """LN-LSTM, eq. 20-22; gate order i, f, g, o.

    With proj_size, which runs by the reference, state and output are h_t = W_hr ( s(o) tanh(LN(c_t)) ), P units: no
    normaliser stands at the projection but that of placement="between_layers", which normalises these P.
    """

    cell = "lstm"
    gates = 4
    num_states = 2
    step = staticmethod(lstm_step)

    def _paper_spans(self, gates, H):
        return {"ih": gates, "hh": gates, "cell": [H]}

    @staticmethod
    def _fold_biases(x, b_ih, b_hh):
        return x + (b_ih + b_hh), None


class GRU(Recurrent):
    """LN-GRU, eq. 26-28; gate order r, z, n. The gates share statistics over 2H, the candidate has its own over H."""

    cell = "gru"
    gates = 3
    step = staticmethod(gru_step)

    def _gate_spans(self, H):
        return [2 * H, H]

    @staticmethod
    def _fold_biases(x, b_ih, b_hh):
        return x + b_ih, b_hh
