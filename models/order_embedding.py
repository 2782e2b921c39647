"""Order embeddings of sentences (Vendrov et al. 2016): what is more general has the smaller coordinates."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .create_norm import NormLayer
from .initialisation import init_recurrent
from .recurrent import CELLS
from .settings import OrderEmbedding as Settings

PADDING = 0  # the number that stands behind a sentence's end
WORDS = 0.1  # largest coordinate of a word vector at the start, as in their code


class OrderEmbedding(nn.Module):
    """Pairs of sentences (N, 2, T) -> their embeddings (N, 2, H), non-negative and of unit length.

    A sentence is a row of words' numbers, with 0 behind its end. Word vectors enter a GRU, and with h its output at the
    sentence's last word the embedding is |h| / ||h||. How well b is a generalisation of a,
    and the loss over the pairs (a_i, b_i) of a batch:

        S(a, b) = -||max(0, b - a)||^2
        L = 1/N sum_i sum_{j != i} max(0, m - S(a_i, b_i) + S(a_i, b_j)) + max(0, m - S(a_i, b_i) + S(a_j, b_i))

    They add up the pairs of a batch, which the mean here does not change but for the clipping of gradients. The two
    sides share their word vectors; with shared=False each has a GRU of its own.
    """

    def __init__(self, settings: Settings, input_shape: tuple[int, ...], num_classes: int, norm_layer: NormLayer):
        """num_classes: size of the vocabulary, of both sides together."""
        super().__init__()
        self.settings = settings
        self.words = nn.Embedding(num_classes, settings.embedding_size)
        nn.init.uniform_(self.words.weight, -WORDS, WORDS)
        self.encoders = nn.ModuleList()
        for _ in range(1 if settings.shared else 2):
            gru = CELLS["gru"](
                settings.embedding_size,
                settings.hidden_size,
                settings.num_layers,
                norm=norm_layer.name,
                norm_options=norm_layer.options,
                placement=settings.placement,
                backend=settings.backend,
            )
            init_recurrent(gru, settings.embedding_size * WORDS**2 / 3, settings.input_scale, settings.forget_bias)
            self.encoders.append(gru)

    def forward(self, pairs: Tensor) -> Tensor:
        if self.settings.shared:
            return self.encode(pairs.flatten(0, 1)).unflatten(0, (-1, 2))
        return torch.stack([self.encode(sentences, side) for side, sentences in enumerate(pairs.unbind(1))], 1)

    def encode(self, sentences: Tensor, side: int = 0) -> Tensor:
        """Sentences (N, T) of one side -> embeddings (N, H)."""
        lengths = (sentences != PADDING).sum(1)
        encoder = self.encoders[0 if self.settings.shared else side]
        y, _ = encoder(self.words(sentences.t()), lengths=lengths)
        return F.normalize(y[lengths - 1, torch.arange(len(sentences), device=y.device)], dim=-1).abs()

    def ranking_loss(self, embeddings: Tensor) -> Tensor:
        """L of the pairs (N, 2, H), each other's negatives."""
        S = scores(*embeddings.unbind(1))
        right = S.diag()
        margin = self.settings.margin
        of_targets = (margin - right[:, None] + S).relu()
        of_sources = (margin - right[None, :] + S).relu()
        wrong = ~torch.eye(len(S), dtype=torch.bool, device=S.device)
        return ((of_targets + of_sources) * wrong).sum() / len(S)


def scores(a: Tensor, b: Tensor) -> Tensor:
    """S(a_i, b_j) of all a (N, H) and b (M, H), (N, M): 0 where b_j <= a_i in every coordinate, else below."""
    return -(b[None] - a[:, None]).relu().square().sum(-1)
