"""Recurrent layers with a choice of normalisation."""

from .cells import GRU, LSTM, RNN
from .convert import AddonsLSTM, from_haste, from_keras
from .layer import PLACEMENTS, Recurrent

CELLS: dict[str, type[Recurrent]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}

__all__ = ["CELLS", "GRU", "LSTM", "PLACEMENTS", "RNN", "AddonsLSTM", "Recurrent", "from_haste", "from_keras"]
