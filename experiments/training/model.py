"""The one place that builds the model of a run."""

from torch import nn

from experiments.runs.run import Run
from models.build import build
from models.create_norm import NormLayer


def build_model(run: Run, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build the run's model, initialised from torch's default generator, on torch's default device.

    input_shape: (C, H, W) of an image, () for tokens. num_classes: classes, or the vocabulary's size.
    Raises ModelError when the model, its settings or the normaliser cannot be had.
    """
    options = dict(run.settings.norm)
    norm_layer = NormLayer(options.pop("name"), options)
    return build(run.settings.model, input_shape, num_classes, norm_layer)
