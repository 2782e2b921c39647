"""Cells as a reader calls them: `lstm, schedule constant` is an LSTM at a constant rate."""

NETWORKS = {
    **{"rnn": "tanh RNN", "lstm": "LSTM", "gru": "GRU", "cnn": "plain CNN", "resnet20": "ResNet-20", "mlp": "MLP"},
    **{"image_rnn": "tanh RNN over images", "image_lstm": "LSTM over images", "image_gru": "GRU over images"},
    "draw": "DRAW",
}
VALUES = NETWORKS | {
    **{"schedule constant": "constant rate", "schedule cosine": "cosine to 0"},
    **{"order rows": "by rows", "order pixels": "by pixels", "order permuted": "pixels permuted"},
    **{"data init True": "data-dependent start", "data init False": "plain start"},
}


def in_words(where: str) -> str:
    """Return a cell's description (experiments.judging.words.describe) in words; what has none stays as it is."""
    return ", ".join(VALUES.get(part, part) for part in where.split(", "))
