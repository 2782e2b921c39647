"""From a name to a model: the table of all models."""

from collections.abc import Mapping

from torch import nn

from .cnn import CIFARResNet20, PlainCNN
from .errors import must_be_one_of
from .language_model import LanguageModel
from .mlp import FullyConnected
from .sequence_classifier import SequenceClassifier

# name: builder(settings, an image's (C, H, W) or (), number of classes, norm, norm options)
MODELS = {
    **dict.fromkeys(("rnn", "lstm", "gru"), lambda s, shape, classes, *norm: LanguageModel(s, classes, *norm)),
    **dict.fromkeys(
        ("image_rnn", "image_lstm", "image_gru"),
        lambda s, shape, classes, *norm: SequenceClassifier(s, shape, classes, *norm),
    ),
    "cnn": lambda s, shape, classes, *norm: PlainCNN(s, shape[0], classes, *norm),
    "resnet20": lambda s, shape, classes, *norm: CIFARResNet20(s, shape[0], classes, *norm),
    "mlp": lambda s, shape, classes, *norm: FullyConnected(s, shape[0] * shape[1] * shape[2], classes, *norm),
}


def build(settings, input_shape: tuple[int, ...], num_classes: int, norm: str, norm_options: Mapping) -> nn.Module:
    """The model that `settings` (settings.py) describes.

    input_shape: (C, H, W) of an image, () for tokens. num_classes: classes, or the vocabulary's size.
    Raises ModelError when the model, its settings or the normaliser cannot be had.
    """
    must_be_one_of("model", settings.name, MODELS)
    return MODELS[settings.name](settings, input_shape, num_classes, norm, norm_options)
