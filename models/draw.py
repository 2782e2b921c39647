"""DRAW: images drawn in several strokes by two LSTMs and an attention window (Gregor et al. 2015)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .create_norm import NormLayer
from .errors import ModelError
from .initialisation import init_output, init_recurrent
from .recurrent import CELLS
from .settings import Draw

EVALUATION_SEED = 0  # of the latent variables in evaluation, the same at each so that curves are of the weights alone


class Window(nn.Module):
    """An attention window of n x n Gaussian filters over an image of H x W, set by the decoder's state h.

    (g~_x, g~_y, log sigma^2, log delta~, log gamma) = W h + b                                   (their eq. 21)
    g_x = (W + 1)/2 (g~_x + 1) ;  g_y = (H + 1)/2 (g~_y + 1) ;  delta = (max(H, W) - 1)/(n - 1) delta~  (22-24)
    mu_i = g + (i - n/2 - 1/2) delta ;  F[i, a] = exp(-(a - mu_i)^2 / (2 sigma^2)) / Z_i        (19, 20, 25, 26)
    """

    def __init__(self, hidden_size: int, size: int, height: int, width: int):
        super().__init__()
        self.size, self.height, self.width = size, height, width
        self.parameters_of = nn.Linear(hidden_size, 5)
        init_output(self.parameters_of)

    def extra_repr(self) -> str:
        return f"{self.size} x {self.size} of {self.height} x {self.width}"

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h (N, hidden_size) -> F_x (N, n, W), F_y (N, n, H), gamma (N, 1, 1)."""
        g_x, g_y, log_variance, log_delta, log_gamma = self.parameters_of(h).unsqueeze(-1).unbind(1)
        delta = (max(self.height, self.width) - 1) / max(self.size - 1, 1) * log_delta.exp()
        offsets = (torch.arange(1, self.size + 1, device=h.device) - self.size / 2 - 0.5) * delta
        filters = []
        for side, g in ((self.width, g_x), (self.height, g_y)):
            mu = ((side + 1) / 2 * (g + 1) + offsets)[:, :, None]
            a = torch.arange(1, side + 1, device=h.device)
            # The softmax over the positions is the division by Z, right also where a window lies far outside.
            filters.append(torch.softmax(-((a - mu) ** 2) / (2 * log_variance.exp()[:, :, None]), -1))
        return filters[0], filters[1], log_gamma.exp()[:, :, None]


class DRAW(nn.Module):
    """Binary images x (N, 1, H, W) -> upper bound (N,) on -log p(x), in nats.

    At each of T glimpses, with the error image x^ = x - s(c_{t-1}) and s the logistic function (their eq. 3-8):

        r_t = read(x, x^, h_dec_{t-1}) ;  h_enc_t = LSTM_enc(h_enc_{t-1}, [r_t, h_dec_{t-1}])
        z_t ~ N(mu(h_enc_t), sigma(h_enc_t)^2) ;  h_dec_t = LSTM_dec(h_dec_{t-1}, z_t) ;  c_t = c_{t-1} + write(h_dec_t)

    The bound is -log Bernoulli(x | s(c_T)) + sum_t KL(q(z_t | h_enc_t) || N(0, I)), at one draw of z (eq. 9-12). The
    normaliser is that of both LSTMs; Ba et al. 2016 have LN at the cell's output alone, placement="cell_only". The
    canvas and all states start at 0.

    In training z comes from torch's default generator, in evaluation from one with a fixed seed.
    """

    def __init__(self, settings: Draw, input_shape: tuple[int, ...], num_classes: int, norm_layer: NormLayer):
        super().__init__()
        channels, height, width = input_shape
        for field in ("read_size", "write_size"):
            if getattr(settings, field) > min(height, width):
                raise ModelError(
                    f"model.{field}={getattr(settings, field)} is more than the image's {height} x {width} pixels; "
                    f"nearest: {min(height, width)}"
                )
        if channels != 1:
            raise ModelError(f"model=draw takes images of one channel, and these have {channels}")
        self.settings = settings
        H = settings.hidden_size
        read = 2 * settings.read_size**2

        def lstm(inputs: int, squares: float):
            layer = CELLS["lstm"](
                inputs,
                H,
                norm=norm_layer.name,
                norm_options=norm_layer.options,
                placement=settings.placement,
                backend=settings.backend,
            )
            init_recurrent(layer, squares, settings.input_scale, settings.forget_bias)
            return layer

        # A window sees at most as many ones as it has filters; a latent variable has a mean square of 1.
        self.encoder = lstm(read + H, read)
        self.decoder = lstm(settings.latent_size, settings.latent_size)
        self.latent = nn.Linear(H, 2 * settings.latent_size)
        self.reader = Window(H, settings.read_size, height, width)
        self.writer = Window(H, settings.write_size, height, width)
        self.patch = nn.Linear(H, settings.write_size**2)
        init_output(self.latent)
        init_output(self.patch)

    def forward(self, images: Tensor) -> Tensor:
        x, N = images[:, 0], len(images)
        canvas = torch.zeros_like(x)
        h = x.new_zeros(N, self.settings.hidden_size)
        encoder = decoder = (h[None], h[None])
        divergence = x.new_zeros(N)
        noise = self._noise(N, x)
        for t in range(self.settings.glimpses):
            r = self._read(x, x - torch.sigmoid(canvas), h)
            y, encoder = self.encoder(torch.cat((r, h), -1)[None], encoder, start=t)
            mu, log_sigma = self.latent(y[0]).chunk(2, -1)
            # KL(N(mu, sigma^2) || N(0, 1)) = (mu^2 + sigma^2 - 1)/2 - log sigma
            divergence = divergence + ((mu**2 + (2 * log_sigma).exp() - 1) / 2 - log_sigma).sum(-1)
            h, decoder = self._stroke(mu + log_sigma.exp() * noise[t], decoder, t)
            canvas = canvas + self._write(h)
        reconstruction = F.binary_cross_entropy_with_logits(canvas, x, reduction="none").sum((1, 2))
        return reconstruction + divergence

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Return probabilities of a one, (count, 1, H, W), drawn from z ~ N(0, I) alone (their section 2.3)."""
        weight = self.patch.weight
        noise = torch.randn(
            (self.settings.glimpses, count, self.settings.latent_size), generator=generator, device=weight.device
        ).to(weight.dtype)
        h = weight.new_zeros(count, self.settings.hidden_size)
        canvas, decoder = weight.new_zeros(count, self.writer.height, self.writer.width), (h[None], h[None])
        for t, z in enumerate(noise):
            h, decoder = self._stroke(z, decoder, t)
            canvas = canvas + self._write(h)
        return torch.sigmoid(canvas)[:, None]

    def _stroke(self, z: Tensor, state, t: int):
        y, state = self.decoder(z[None], state, start=t)
        return y[0], state

    def _read(self, x: Tensor, error: Tensor, h: Tensor) -> Tensor:
        """gamma [F_y x F_x', F_y x^ F_x'], (N, 2 n n)    (their eq. 27)"""
        F_x, F_y, gamma = self.reader(h)
        patches = F_y[:, None] @ torch.stack((x, error), 1) @ F_x[:, None].transpose(-1, -2)
        return (gamma[:, None] * patches).flatten(1)

    def _write(self, h: Tensor) -> Tensor:
        """1/gamma F_y' w F_x, (N, H, W)    (their eq. 28, 29)"""
        F_x, F_y, gamma = self.writer(h)
        w = self.patch(h).view(len(h), self.settings.write_size, -1)
        return F_y.transpose(1, 2) @ w @ F_x / gamma

    def _noise(self, N: int, x: Tensor) -> Tensor:
        shape = self.settings.glimpses, N, self.settings.latent_size
        if self.training:
            return torch.randn(shape, dtype=x.dtype, device=x.device)
        generator = torch.Generator(x.device).manual_seed(EVALUATION_SEED) if x.device.type != "meta" else None
        return torch.randn(shape, dtype=x.dtype, device=x.device, generator=generator)
