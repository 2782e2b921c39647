"""A fully connected classifier: images (N, ...) -> logits (N, num_classes)."""

import itertools
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from .norms import norm_after
from .settings import MLP


class FullyConnected(nn.Module):
    """ReLU layers with the norm on their summed inputs; on the logits only if asked (Ba et al. 2016, section 6.6)."""

    def __init__(self, settings: MLP, inputs: int, num_classes: int, norm: str, norm_options: Mapping | None = None):
        super().__init__()
        sizes = [inputs, *settings.hidden_sizes]
        layers = [nn.Linear(m, n) for m, n in itertools.pairwise(sizes)]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.hidden = nn.ModuleList(norm_after(layer, norm, norm_options) for layer in layers)
        output = nn.Linear(sizes[-1], num_classes)
        self.output = norm_after(output, norm, norm_options) if settings.norm_output else output

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.output(x)
