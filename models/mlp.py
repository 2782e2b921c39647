"""A fully connected classifier: images (N, ...) -> logits (N, num_classes)."""

import itertools
import math

from torch import Tensor, nn
from torch.nn import functional as F

from .create_norm import NormLayer
from .settings import MLP


class FullyConnected(nn.Module):
    """ReLU layers with the norm on their summed inputs; on the logits only if asked (Ba et al. 2016, section 6.6)."""

    def __init__(self, settings: MLP, input_shape: tuple[int, ...], num_classes: int, norm_layer: NormLayer):
        super().__init__()
        sizes = [math.prod(input_shape), *settings.hidden_sizes]
        layers = [nn.Linear(m, n) for m, n in itertools.pairwise(sizes)]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.hidden = nn.ModuleList(norm_layer.after(layer) for layer in layers)
        output = nn.Linear(sizes[-1], num_classes)
        self.output = norm_layer.after(output) if settings.norm_output else output

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.output(x)
