"""A recurrent language model over characters or words."""

from torch import Tensor, nn
from torch.nn import functional as F

from .create_norm import NormLayer
from .errors import ModelError, must_be_one_of
from .initialisation import init_output, init_recurrent
from .recurrent import CELLS
from .settings import Recurrent

ONE_HOT_LIMIT = 1000  # symbols; beyond, one-hot vectors fill the memory and an embedding is the custom


class LanguageModel(nn.Module):
    """Next-token logits: tokens (N, T) -> (N, T, V), and the final state of the recurrence.

    A text may come in pieces: give the state that the last piece ended with, and in `start` the tokens before this one.

    Every normaliser has the same initial weights: orthogonal recurrent matrix for each gate, summed inputs W_x x of
    standard deviation `input_scale`, forget gate bias 1. A one-hot input makes the scale matter: with a standard
    deviation of 0.3 the un-normalised LSTM loses more than LN gains, and LN would beat a straw man.
    """

    def __init__(self, settings: Recurrent, input_shape: tuple[int, ...], num_classes: int, norm_layer: NormLayer):
        """input_shape: (), tokens have none. num_classes: V, the vocabulary's size."""
        super().__init__()
        vocab_size = num_classes
        must_be_one_of("model.input", settings.input, ("auto", "onehot", "embedding"))
        embedded = settings.input == "embedding" or (settings.input == "auto" and vocab_size > ONE_HOT_LIMIT)
        if settings.tied and (not embedded or settings.embedding_size != settings.hidden_size):
            raise ModelError(
                "model.tied=true needs model.input=embedding and model.embedding_size equal to model.hidden_size "
                f"({settings.hidden_size})"
            )
        self.settings, self.vocab_size = settings, vocab_size
        self.embedding = nn.Embedding(vocab_size, settings.embedding_size) if embedded else None
        self.recurrent = CELLS[settings.name](
            settings.embedding_size if embedded else vocab_size,
            settings.hidden_size,
            settings.num_layers,
            batch_first=True,
            dropout=settings.dropout if settings.num_layers > 1 else 0.0,
            norm=norm_layer.name,
            norm_options=norm_layer.options,
            placement=settings.placement,
            backend=settings.backend,
        )
        self.output = nn.Linear(settings.hidden_size, vocab_size)
        self.reset_parameters()
        if settings.tied and self.embedding is not None:
            self.output.weight = self.embedding.weight

    def reset_parameters(self) -> None:
        settings = self.settings
        init_recurrent(self.recurrent, self._input_squares(), settings.input_scale, settings.forget_bias)
        if self.embedding is not None:
            # A tied matrix is also the output's, whose logits must not start with a standard deviation of sqrt(H).
            nn.init.normal_(self.embedding.weight, std=settings.hidden_size**-0.5 if settings.tied else 1.0)
        init_output(self.output)

    def _input_squares(self) -> float:
        """The sum of x^2 over the inputs of the first layer, at the start."""
        if self.embedding is None or self.settings.tied:
            return 1.0  # one-hot; a tied embedding has entries of variance 1/H
        return self.settings.embedding_size

    def inputs(self, tokens: Tensor) -> Tensor:
        """What the recurrence reads: one-hot vectors or embeddings, (..., I)."""
        if self.embedding is None:
            return F.one_hot(tokens, self.vocab_size).to(self.output.weight.dtype)
        return self.embedding(tokens)

    def forward(self, tokens: Tensor, state=None, start: int = 0) -> tuple[Tensor, object]:
        dropout, training = self.settings.dropout, self.training
        y, state = self.recurrent(F.dropout(self.inputs(tokens), dropout, training), state, start)
        return self.output(F.dropout(y, dropout, training)), state
