"""The attentive reader: answers a question about a passage by what it attends to in it (Hermann et al. 2015)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .create_norm import NormLayer
from .initialisation import init_recurrent
from .recurrent import CELLS
from .settings import AttentiveReader as Settings

PADDING = 0  # the symbol behind the end of a sequence


class AttentiveReader(nn.Module):
    """Questions and passages (N, Q + P) -> logits of the candidates, (N, num_classes).

    A question fills the first Q columns, its passage the rest, each padded with 0 at its end. With the outputs y_q(t)
    of an LSTM over the question and y_d(t) of one over the passage, of both directions side by side where they are
    bidirectional (their section 3.2):

        u = y_q of the question's last step, of the other direction of its first
        m(t) = tanh( W_ym y_d(t) + W_um u ) ;  s(t) = softmax_t( w_ms m(t) ) ;  r = sum_t s(t) y_d(t)
        g = tanh( W_rg r + W_ug u ) ;  p(a) = softmax_a( W g )

    The normaliser is that of the LSTMs; Ba et al. 2016, section 6.2, have it nowhere else. No state, statistic,
    attention weight or gradient depends on padding. Start: as the language model's, with embeddings of variance 1.
    """

    def __init__(self, settings: Settings, input_shape: tuple[int, ...], num_classes: int, norm_layer: NormLayer):
        """input_shape: (symbols, Q, P). num_classes: candidates."""
        super().__init__()
        symbols, self.question_length, _ = input_shape
        self.settings = settings
        H = settings.hidden_size * (2 if settings.bidirectional else 1)

        def lstm():
            layer = CELLS["lstm"](
                settings.embedding_size,
                settings.hidden_size,
                batch_first=True,
                bidirectional=settings.bidirectional,
                norm=norm_layer.name,
                norm_options=norm_layer.options,
                placement=settings.placement,
                backend=settings.backend,
            )
            init_recurrent(layer, settings.embedding_size, settings.input_scale, settings.forget_bias)
            return layer

        self.embedding = nn.Embedding(symbols, settings.embedding_size)
        self.passage = lstm()
        self.question = lstm()
        self.W_ym, self.W_um, self.W_rg, self.W_ug = (nn.Linear(H, H, bias=False) for _ in range(4))
        self.w_ms = nn.Linear(H, 1, bias=False)
        self.W = nn.Linear(H, num_classes, bias=False)
        for layer in (self.W_ym, self.W_um, self.W_rg, self.W_ug, self.w_ms, self.W):
            nn.init.normal_(layer.weight, std=H**-0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.read(inputs)[0]

    def read(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits, and the attention s (N, T) over the steps of the longest passage."""
        y_q, of_question = self._states(self.question, inputs[:, : self.question_length])
        y_d, of_passage = self._states(self.passage, inputs[:, self.question_length :])
        u = self._ends(y_q, of_question.sum(1))
        m = torch.tanh(self.W_ym(y_d) + self.W_um(u)[:, None])
        s = self.w_ms(m)[..., 0].masked_fill(~of_passage, -torch.inf).softmax(1)
        r = (s[:, None] @ y_d)[:, 0]
        g = torch.tanh(self.W_rg(r) + self.W_ug(u))
        return self.W(self._dropped(g)), s

    def _states(self, lstm: nn.Module, symbols: Tensor) -> tuple[Tensor, Tensor]:
        """Return an LSTM's outputs (N, T, H) up to the longest sequence, and which of them are no padding (N, T)."""
        lengths = (symbols != PADDING).sum(1)
        symbols = symbols[:, : int(lengths.max())]
        y, _ = lstm(self._dropped(self.embedding(symbols)), lengths=lengths)
        return y, symbols != PADDING

    def _ends(self, y: Tensor, lengths: Tensor) -> Tensor:
        """Return y of the last step of each sequence, of the second direction that of the first step."""
        last = y[torch.arange(len(y), device=y.device), lengths - 1]
        if not self.settings.bidirectional:
            return last
        H = self.settings.hidden_size
        return torch.cat((last[:, :H], y[:, 0, H:]), 1)

    def _dropped(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.settings.dropout, self.training)
