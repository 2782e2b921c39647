"""Skip-thoughts: a sentence as the state from which the sentences around it are predicted (Kiros et al. 2015)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .create_norm import NormLayer
from .initialisation import OUTPUT_SQUARE, init_output, init_recurrent
from .recurrent import CELLS
from .settings import SkipThoughts as Settings

END = 0  # what stands behind a sentence's last word: predicted last, read first


class SkipThoughts(nn.Module):
    """Sentences between their neighbours (N, 3, T) -> -log p of the one before and of the one after, (N, 2), in nats.

    A sentence is a row of words' numbers, with 0 behind its end. With the vectors x_t of its words w_t, x_0 that of
    the end, and h_i the state of a GRU behind the last word of sentence i (their section 2):

        s_t = GRU( [x_{t-1}; h_i], s_{t-1} ),  s_0 = 0
        p(w_t | w_1 ... w_{t-1}, h_i) = softmax( V s_t + b ),  L = -sum_t log p(w_t | ...)

    over the words of sentence i - 1, and by a second such decoder over those of sentence i + 1, each with its end. All
    share the word vectors, the decoders V and b. What h_i adds to a decoder's summed inputs, as a part of its input, is
    the term C h_i of every gate and step in their equations. The normaliser of W_x x has it in its statistics.

    No state, statistic or gradient depends on padding. Start: as the language model's, with word vectors of variance 1.
    """

    def __init__(self, settings: Settings, input_shape: tuple[int, ...], num_classes: int, norm_layer: NormLayer):
        """num_classes: size of the vocabulary."""
        super().__init__()
        self.settings = settings
        E, H = settings.embedding_size, settings.hidden_size

        def gru(inputs: int, input_squares: float) -> Any:
            layer = CELLS["gru"](
                inputs,
                H,
                norm=norm_layer.name,
                norm_options=norm_layer.options,
                placement=settings.placement,
                backend=settings.backend,
            )
            init_recurrent(layer, input_squares, settings.input_scale, settings.forget_bias)
            return layer

        self.words = nn.Embedding(num_classes, E)
        self.encoder = gru(E, E)
        self.decoders = nn.ModuleList(gru(E + H, E + H * OUTPUT_SQUARE["gru"]) for _ in range(2))
        self.output = nn.Linear(H, num_classes)
        init_output(self.output)

    def forward(self, triples: Tensor) -> Tensor:
        before, middle, after = triples.unbind(1)
        h = self.encode(middle)
        decoded = zip(self.decoders, (before, after), strict=True)
        return torch.stack([self._negative_log_likelihood(decoder, words, h) for decoder, words in decoded], 1)

    def encode(self, sentences: Tensor) -> Tensor:
        """Sentences (N, T) -> their states h (N, H)."""
        lengths = (sentences != END).sum(1)
        _, state = self.encoder(self.words(sentences[:, : int(lengths.max())].t()), lengths=lengths)
        return state[0]

    def _negative_log_likelihood(self, decoder: nn.Module, sentences: Tensor, h: Tensor) -> Tensor:
        """Sentences (N, T), states h (N, H) of those beside them -> -log p of each, with its end, (N,)."""
        lengths = (sentences != END).sum(1) + 1
        T = int(lengths.max())
        read, predicted = (F.pad(sentences, sides)[:, :T].t() for sides in ((1, 0), (0, 1)))
        x = torch.cat((self.words(read), h.expand(T, -1, -1)), -1)
        s, _ = decoder(x, lengths=lengths)
        there = torch.arange(T, device=lengths.device)[:, None] < lengths
        nats = F.cross_entropy(self.output(s[there]), predicted[there], reduction="none")
        return torch.zeros_like(there, dtype=nats.dtype).masked_scatter(there, nats).sum(0)
