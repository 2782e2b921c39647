"""From a name to a network: the table of all of them."""

from torch import nn

from .attentive_reader import AttentiveReader
from .cnn import CIFARResNet20, PlainCNN
from .create_norm import NormLayer
from .draw import DRAW
from .errors import must_be_one_of
from .handwriting import HandwritingNetwork
from .language_model import LanguageModel
from .mlp import FullyConnected
from .order_embedding import OrderEmbedding
from .sequence_classifier import SequenceClassifier
from .skip_thoughts import SkipThoughts

# All have the constructor (settings, input_shape, num_classes, norm_layer).
MODELS: dict[str, type[nn.Module]] = {
    "rnn": LanguageModel,
    "lstm": LanguageModel,
    "gru": LanguageModel,
    "image_rnn": SequenceClassifier,
    "image_lstm": SequenceClassifier,
    "image_gru": SequenceClassifier,
    "cnn": PlainCNN,
    "resnet20": CIFARResNet20,
    "mlp": FullyConnected,
    "draw": DRAW,
    "handwriting": HandwritingNetwork,
    "order_embedding": OrderEmbedding,
    "attentive_reader": AttentiveReader,
    "skip_thoughts": SkipThoughts,
}


def build(settings, input_shape: tuple[int, ...], num_classes: int, norm_layer: NormLayer) -> nn.Module:
    """Return the network that `settings` (settings.py) describes.

    input_shape: (C, H, W) of an image, () for tokens, (2, T) for a pair of sentences, (3, T) for a sentence between its
    neighbours, (symbols, Q, P) for a question with its passage. num_classes: classes, candidates, or the vocabulary's
    size.
    Raises ModelError when the network, its settings or the normaliser cannot be had.
    """
    must_be_one_of("model", settings.name, MODELS)
    return MODELS[settings.name](settings, input_shape, num_classes, norm_layer)
