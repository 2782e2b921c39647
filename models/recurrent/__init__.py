"""Recurrent layers with a choice of normalisation."""

from .layer import GRU, LSTM, PLACEMENTS, RNN, Recurrent

CELLS: dict[str, type[Recurrent]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}

__all__ = ["CELLS", "GRU", "LSTM", "PLACEMENTS", "RNN", "Recurrent"]
