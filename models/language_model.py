"""A recurrent language model over characters or words."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ModelError
from models.recurrent import CELLS
from models.settings import Recurrent


class LanguageModel(nn.Module):
    """Next-token logits: tokens (N, T) -> (N, T, V), and the final state of the recurrence.

    The start is the same for every normaliser: orthogonal recurrent matrix for each gate, summed inputs W_x x of
    standard deviation `input_scale`, forget gate bias 1. A one-hot input makes the scale matter: with a standard
    deviation of 0.3 the un-normalised LSTM loses more than LN gains, and LN would beat a straw man.
    """

    def __init__(self, settings: Recurrent, vocab_size: int, norm: str, norm_options: Mapping | None = None):
        super().__init__()
        if settings.input not in ("onehot", "embedding"):
            raise ModelError(f"model.input={settings.input} is unknown; allowed: onehot, embedding")
        if settings.tied and (settings.input != "embedding" or settings.embedding_size != settings.hidden_size):
            raise ModelError(
                "model.tied=true needs model.input=embedding and model.embedding_size equal to model.hidden_size "
                f"({settings.hidden_size})"
            )
        self.settings, self.vocab_size = settings, vocab_size
        embedded = settings.input == "embedding"
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
                # Variance of W_x x = sum over inputs of var(W) x^2, where x^2 sums to 1 for one-hot input, to the
                # embedding's size for a standard normal embedding, and to about H/2 for the layer below's outputs.
                first = name.endswith("_l0")
                size = (1 if self.embedding is None else weight.shape[1]) if first else weight.shape[1] / 2
                nn.init.normal_(weight, std=self.settings.input_scale / size**0.5)
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

    def forward(self, tokens: Tensor, state=None) -> tuple[Tensor, object]:
        dropout, training = self.settings.dropout, self.training
        if self.embedding is None:
            x = F.one_hot(tokens, self.vocab_size).to(self.output.weight.dtype)
        else:
            x = self.embedding(tokens)
        y, state = self.recurrent(F.dropout(x, dropout, training), state)
        return self.output(F.dropout(y, dropout, training)), state
