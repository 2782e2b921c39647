"""A recurrent classifier that reads images as sequences, a task of long memory (Le et al. 2015)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .create_norm import NormLayer
from .errors import ModelError, must_be_one_of
from .initialisation import init_output, init_recurrent
from .recurrent import CELLS
from .settings import ImageRecurrent

ORDERS = ("rows", "pixels", "permuted")
PERMUTATION_SEED = 0  # one permutation for all runs: with another the task is another


class SequenceClassifier(nn.Module):
    """Images (N, C, H, W) -> logits (N, num_classes), read from the recurrence's output at the last step.

    `order` makes the sequence (T, N, I):
        rows       T = H, I = C W    top to bottom
        pixels     T = H W, I = C    row by row, left to right
        permuted   T = H W, I = C    the pixels in one fixed random order, so that neighbours come far apart

    The start is the language model's: orthogonal recurrence, forget gate bias 1, summed inputs W_x x of standard
    deviation `input_scale`. Standardised images have a mean square of 1 in every channel, so the sum of x^2 over the
    inputs of a step is I on average over steps and cases.

    Of a step that reads one number x, as a pixel of a grey image, ln, gn and rms on W_x x keep only the sign (LSTM and
    GRU; the RNN normalises the sum): (w x - mu(w x)) / sigma(w x) = sign(x) (w - mu(w)) / sigma(w).

    The first pixels of handwritten digits are the same in every case. There a batch has variance 0 at each step, where
    batch normalisation multiplies gradients by 1/sqrt(eps): over 100 such steps they overflow. Noise on the initial
    state, `state_noise`, gives the batch a variance from the first step on (Cooijmans et al. 2016, section 5.1, who
    added it for BN alone; here it is the same for every normaliser). Evaluation starts from zero.
    """

    permutation: Tensor

    def __init__(self, settings: ImageRecurrent, input_shape: tuple[int, ...], num_classes: int, norm_layer: NormLayer):
        super().__init__()
        must_be_one_of("model.order", settings.order, ORDERS)
        if not 0 <= settings.state_noise < math.inf:
            raise ModelError(
                f"model.state_noise={settings.state_noise} is no standard deviation; give 0 or more, as 0.1"
            )
        channels, height, width = input_shape
        inputs = channels * width if settings.order == "rows" else channels
        self.settings = settings
        self.recurrent = CELLS[settings.name.removeprefix("image_")](
            inputs,
            settings.hidden_size,
            settings.num_layers,
            dropout=settings.dropout if settings.num_layers > 1 else 0.0,
            norm=norm_layer.name,
            norm_options=norm_layer.options,
            placement=settings.placement,
            backend=settings.backend,
        )
        self.output = nn.Linear(settings.hidden_size, num_classes)
        if settings.order == "permuted":
            generator = torch.Generator().manual_seed(PERMUTATION_SEED)
            permutation = torch.randperm(height * width, generator=generator, device="cpu")
            self.register_buffer("permutation", permutation, persistent=False)
        init_recurrent(self.recurrent, inputs, settings.input_scale, settings.forget_bias)
        init_output(self.output)

    def sequence(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) -> (T, N, I)."""
        if self.settings.order == "rows":
            return images.permute(2, 0, 1, 3).flatten(2)
        pixels = images.flatten(2).permute(2, 0, 1)
        return pixels[self.permutation] if self.settings.order == "permuted" else pixels

    def initial_state(self, images: Tensor):
        """h_0 of every layer, (num_layers, N, H); with c_0 = 0 for an LSTM. None, which is zero, without noise."""
        if not (self.training and self.settings.state_noise):
            return None
        shape = self.settings.num_layers, len(images), self.settings.hidden_size
        h = self.settings.state_noise * torch.randn(shape, dtype=images.dtype, device=images.device)
        return h if self.recurrent.num_states == 1 else (h, torch.zeros_like(h))

    def forward(self, images: Tensor) -> Tensor:
        y, _ = self.recurrent(self.sequence(images), self.initial_state(images))
        return self.output(F.dropout(y[-1], self.settings.dropout, self.training))
