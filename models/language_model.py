"""A recurrent language model over characters or words."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ModelError
from models.recurrent import CELLS
from models.settings import Recurrent

ONE_HOT_LIMIT = 1000  # symbols; beyond, one-hot vectors fill the memory and an embedding is the custom
# Mean square of an un-normalised layer's outputs at the start, measured over 64 steps of summed inputs of variance 1:
# what the layer above gets. Normalised layers differ by less than a factor of 2, and forget the scale.
OUTPUT_SQUARE = {"rnn": 0.47, "lstm": 0.06, "gru": 0.18}


class LanguageModel(nn.Module):
    """Next-token logits: tokens (N, T) -> (N, T, V), and the final state of the recurrence.

    The start is the same for every normaliser: orthogonal recurrent matrix for each gate, summed inputs W_x x of
    standard deviation `input_scale`, forget gate bias 1. A one-hot input makes the scale matter: with a standard
    deviation of 0.3 the un-normalised LSTM loses more than LN gains, and LN would beat a straw man.
    """

    def __init__(self, settings: Recurrent, vocab_size: int, norm: str, norm_options: Mapping | None = None):
        super().__init__()
        if settings.input not in ("auto", "onehot", "embedding"):
            raise ModelError(f"model.input={settings.input} is unknown; allowed: auto, onehot, embedding")
        embedded = settings.input == "embedding" or (settings.input == "auto" and vocab_size > ONE_HOT_LIMIT)
        if settings.tied and (not embedded or settings.embedding_size != settings.hidden_size):
            raise ModelError(
                "model.tied=true needs model.input=embedding and model.embedding_size equal to model.hidden_size "
                f"({settings.hidden_size})"
            )
        self.settings, self.vocab_size, self.cell = settings, vocab_size, settings.name
        self.embedding = nn.Embedding(vocab_size, settings.embedding_size) if embedded else None
        self.recurrent = CELLS[settings.name](
            settings.embedding_size if embedded else vocab_size,
            settings.hidden_size,
            settings.num_layers,
            batch_first=True,
            dropout=settings.dropout,
            norm=norm,
            norm_options=norm_options,
            placement=settings.placement,
            backend=settings.backend,
        )
        self.output = nn.Linear(settings.hidden_size, vocab_size)
        self.reset_parameters()
        if settings.tied:
            self.output.weight = self.embedding.weight

    def reset_parameters(self) -> None:
        H, recurrent = self.settings.hidden_size, self.recurrent
        for name in recurrent.weight_names:
            weight = torch.empty_like(getattr(recurrent, name))
            if "weight_hh" in name:
                for gate in weight.split(H):
                    nn.init.orthogonal_(gate)
            else:
                # Var(W_x x) = var(W) * sum of x^2 over the inputs: make it input_scale^2.
                squares = self._input_squares() if name.endswith("_l0") else weight.shape[1] * OUTPUT_SQUARE[self.cell]
                nn.init.normal_(weight, std=self.settings.input_scale / squares**0.5)
            recurrent.assign(name, weight)
        for name, parameter in recurrent.named_parameters(recurse=False):
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
                if name.startswith("bias_ih") and self.settings.name == "lstm":
                    nn.init.constant_(parameter[H : 2 * H], self.settings.forget_bias)
        if self.embedding is not None:
            # A tied matrix is also the output's, whose logits must not start with a standard deviation of sqrt(H).
            nn.init.normal_(self.embedding.weight, std=H**-0.5 if self.settings.tied else 1.0)
        nn.init.normal_(self.output.weight, std=H**-0.5)
        nn.init.zeros_(self.output.bias)

    def _input_squares(self) -> float:
        """The sum of x^2 over the inputs of the first layer, at the start."""
        if self.embedding is None or self.settings.tied:
            return 1.0  # one-hot; a tied embedding has entries of variance 1/H
        return self.settings.embedding_size

    def forward(self, tokens: Tensor, state=None) -> tuple[Tensor, object]:
        dropout, training = self.settings.dropout, self.training
        if self.embedding is None:
            x = F.one_hot(tokens, self.vocab_size).to(self.output.weight.dtype)
        else:
            x = self.embedding(tokens)
        y, state = self.recurrent(F.dropout(x, dropout, training), state)
        return self.output(F.dropout(y, dropout, training)), state
