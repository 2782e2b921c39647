"""Handwriting: a pen trajectory predicted step by step, with or without the text that it shows (Graves 2013)."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .create_norm import NormLayer
from .errors import ModelError
from .initialisation import OUTPUT_SQUARE, init_output, init_recurrent
from .recurrent import CELLS
from .settings import Handwriting

PAST_THE_END = -1  # stands where a trajectory or a text has ended: in place of "pen up", or of a symbol
STEPS_PER_SYMBOL = 15  # by which the window moves on at the start; it learns its own


class Mixture(NamedTuple):
    """A density of the next point: M bivariate Gaussians for the step (dx, dy), Bernoulli for "pen up".

    log_pi, correlation: (..., M). mean, log_sigma: (..., M, 2). pen: (...) logits. The correlation rho is tanh of
    `correlation`.
    """

    pen: Tensor
    log_pi: Tensor
    mean: Tensor
    log_sigma: Tensor
    correlation: Tensor

    @classmethod
    def of(cls, outputs: Tensor) -> "Mixture":
        """outputs (..., 1 + 6 M) -> the mixture    (their eq. 18 to 22; the pen's logit has the usual sign)"""
        M = outputs.shape[-1] // 6
        pen, log_pi, mean, log_sigma, correlation = outputs.split((1, M, 2 * M, 2 * M, M), -1)
        mean, log_sigma = (part.unflatten(-1, (M, 2)) for part in (mean, log_sigma))
        return cls(pen[..., 0], log_pi.log_softmax(-1), mean, log_sigma, correlation)

    def negative_log_likelihood(self, points: Tensor) -> Tensor:
        """points (..., 3) -> -log p in nats, (...)    (their eq. 23 to 26)

        With rho = tanh r,  Z / (1 - rho^2) = (z_1 cosh r - z_2 sinh r)^2 + z_2^2  and  1 - rho^2 = 1 / cosh(r)^2, which
        are right also where rho rounds to 1.
        """
        z_1, z_2 = ((points[..., None, :2] - self.mean) * (-self.log_sigma).exp()).unbind(-1)
        r = self.correlation
        log_cosh = r.abs() + F.softplus(-2 * r.abs()) - math.log(2)
        rotated = ((z_1 - z_2) * r.exp() + (z_1 + z_2) * (-r).exp()) / 2  # z_1 cosh r - z_2 sinh r
        exponent = (rotated**2 + z_2**2) / 2
        log_density = log_cosh - exponent - self.log_sigma.sum(-1) - math.log(2 * math.pi)
        step = torch.logsumexp(self.log_pi + log_density, -1)
        return F.binary_cross_entropy_with_logits(self.pen, points[..., 2], reduction="none") - step

    def sample(self, temperature: float, generator: torch.Generator | None = None) -> Tensor:
        """Return points (N, 3), drawn from the mixture; at temperature 0 the mean of the likeliest Gaussian.

        The logits of the Gaussians are divided by the temperature, their variances multiplied by it. The pen keeps its
        probability: it leaves the paper at one point in thirty, and at a low temperature would never.
        """
        if temperature == 0:
            chosen, noise, up = self.log_pi.argmax(-1), torch.zeros_like(self.mean[:, 0]), self.pen > 0
        else:
            chosen = (self.log_pi / temperature).softmax(-1).multinomial(1, generator=generator)[:, 0]
            as_here: dict[str, Any] = {"dtype": self.pen.dtype, "device": self.pen.device, "generator": generator}
            noise = torch.randn(len(chosen), 2, **as_here) * temperature**0.5
            up = torch.rand(len(chosen), **as_here) < torch.sigmoid(self.pen)
        n = torch.arange(len(chosen), device=self.pen.device)
        rho, sigma = self.correlation[n, chosen].tanh(), self.log_sigma[n, chosen].exp()
        second = rho * noise[:, 0] + (1 - rho**2).sqrt() * noise[:, 1]
        step = self.mean[n, chosen] + sigma * torch.stack((noise[:, 0], second), -1)
        return torch.cat((step, up.to(step.dtype)[:, None]), -1)


class TextWindow(nn.Module):
    """A soft window of K Gaussians over the U symbols of a text c, moved on by the state h of the first layer.

    (alpha^, beta^, kappa^) = W h + b ;  alpha = exp alpha^ ;  beta = exp beta^                  (their eq. 48 to 50)
    kappa_t = kappa_{t-1} + exp kappa^ ;  phi(t, u) = sum_k alpha_k exp(-beta_k (kappa_k - u)^2)       (51 and 46)
    w_t = sum_u phi(t, u) c_u                                                                                 (47)
    """

    def __init__(self, hidden_size: int, gaussians: int):
        super().__init__()
        self.gaussians = gaussians
        self.parameters_of = nn.Linear(hidden_size, 3 * gaussians)
        init_output(self.parameters_of)
        with torch.no_grad():
            alpha, _, kappa = self.parameters_of.bias.chunk(3)
            alpha.fill_(-math.log(gaussians))
            kappa.fill_(-math.log(STEPS_PER_SYMBOL))

    def forward(self, h: Tensor, kappa: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """h (N, H), kappa (N, K), the places u (U,) -> phi (N, U), and the new kappa."""
        log_alpha, log_beta, log_move = self.parameters_of(h).chunk(3, -1)
        kappa = kappa + log_move.exp()
        distance = (kappa[:, :, None] - places) ** 2
        return (log_alpha[:, :, None] - log_beta.exp()[:, :, None] * distance).exp().sum(1), kappa


class HandwritingNetwork(nn.Module):
    """Trajectories (N, T, 3) of points (dx, dy, pen up) -> -log p of all points but the first, (N,), in nats.

    Stacked LSTM layers; each reads the last point and the layer below, and all are read by the output, which gives the
    mixture of the next point (Graves 2013, sections 4 and 5). With `settings.window` they also read the window over the
    text: the first layer w_{t-1}, so that it runs a step at a time, the others w_t. Without a window whole sequences go
    through the layers.

    A point enters as x = tanh(W (dx, dy, pen up) + b). Layer normalisation of W_x times three numbers would keep their
    direction alone, and a move of the pen to the next stroke, fifty times as long as a step within one, would close the
    gates of an un-normalised layer. The embedding is the same for every normaliser.

    Every state starts at 0.
    """

    def __init__(self, settings: Handwriting, input_shape: tuple[int, ...], num_classes: int, norm_layer: NormLayer):
        """input_shape: (3,). num_classes: symbols of the texts."""
        super().__init__()
        if settings.window and norm_layer.name == "bn":
            raise ModelError(
                "norm=bn has no statistics of a step at which sequences have ended, and model.window="
                f"{settings.window} makes the first layer run step by step; use model.window=0 or norm=ln"
            )
        self.settings, self.vocab_size = settings, num_classes
        H, inputs = settings.hidden_size, settings.input_units
        self.embedding = nn.Linear(3, inputs)
        read = inputs + (num_classes if settings.window else 0)
        self.layers: Any = nn.ModuleList(
            CELLS["lstm"](
                read + (H if k else 0),
                H,
                norm=norm_layer.name,
                norm_options=norm_layer.options,
                placement=settings.placement,
                backend=settings.backend,
            )
            for k in range(settings.num_layers)
        )
        self.window = TextWindow(H, settings.window) if settings.window else None
        self.output = nn.Linear(settings.num_layers * H, 1 + 6 * settings.mixtures)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the layers as every recurrent network here, the features of a point at scales around its own."""
        settings = self.settings
        nn.init.normal_(self.embedding.weight)
        nn.init.normal_(self.embedding.bias)
        # tanh of a number of variance 3, and a window that is one symbol
        squares = 0.5 * settings.input_units + (1 if settings.window else 0)
        for k, layer in enumerate(self.layers):
            below = settings.hidden_size * OUTPUT_SQUARE["lstm"] if k else 0
            init_recurrent(layer, squares + below, settings.input_scale, settings.forget_bias)
        init_output(self.output)

    def forward(self, trajectories: Tensor, texts: Tensor | None = None) -> Tensor:
        """trajectories (N, T, 3), texts (N, U): both PAST_THE_END behind their ends."""
        points, there = _points(trajectories)
        y = self._hidden(points[:-1], there, texts)
        nats = Mixture.of(self.output(y)).negative_log_likelihood(points[1:][there])
        return torch.zeros_like(there, dtype=nats.dtype).masked_scatter(there, nats).sum(0)

    def hidden_states(self, trajectories: Tensor, texts: Tensor | None = None) -> Tensor:
        """Return h of each layer before every predicted point, (points, layers, H)."""
        points, there = _points(trajectories)
        return self._hidden(points[:-1], there, texts).unflatten(-1, (len(self.layers), -1))

    def _hidden(self, points: Tensor, there: Tensor, texts: Tensor | None) -> Tensor:
        """points (T, N, 3), there (T, N) -> the outputs of all layers where there is a point, (points, layers H)"""
        x, lengths = torch.tanh(self.embedding(points)), there.sum(0)
        first, *others = self.layers
        if self.window is None:
            y, _ = first(x, lengths=lengths)
        else:
            walk = Walk(first, self.window, self._symbols(texts, x))
            hidden, read = zip(*map(walk.step, x), strict=True)
            y, x = torch.stack(hidden), torch.cat((x, torch.stack(read)), -1)
        outputs = [y]
        for layer in others:
            y, _ = layer(torch.cat((x, y), -1), lengths=lengths)
            outputs.append(y)
        return torch.cat(outputs, -1)[there]

    def _symbols(self, texts: Tensor | None, like: Tensor) -> Tensor:
        """texts (N, U) -> one-hot rows (N, U, V), zeros past the end. Raises ValueError where there is no text."""
        if texts is None:
            raise ValueError(f"model.window={self.settings.window}: this network writes a text; give one")
        return (texts[..., None] == torch.arange(self.vocab_size, device=texts.device)).to(like.dtype)

    @torch.no_grad()
    def sample(
        self,
        points: int,
        text: Tensor | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return a trajectory (at most `points`, 3) drawn from the model; its first point is 0, 0.

        text: (U,) symbols, of a network with a window. It ends where the window has left the text behind: where the
        place past the last symbol has more of it than any symbol (their section 5.3).
        """
        trajectory = [self.output.weight.new_zeros(1, 3)]
        walk = None
        if self.window is not None:
            walk = Walk(self.layers[0], self.window, self._symbols(None if text is None else text[None], trajectory[0]))
        states: list[Any] = [None] * len(self.layers)
        for t in range(points - 1):
            x = torch.tanh(self.embedding(trajectory[-1]))
            outputs: list[Tensor] = []
            if walk is not None:
                h, w = walk.step(x)
                x = torch.cat((x, w), -1)
                outputs.append(h)
            for k in range(len(outputs), len(self.layers)):
                y, states[k] = self.layers[k](torch.cat((x, *outputs[-1:]), -1)[None], states[k], start=t)
                outputs.append(y[0])
            trajectory.append(Mixture.of(self.output(torch.cat(outputs, -1))).sample(temperature, generator))
            if walk is not None and walk.past_the_text:
                break
        return torch.cat(trajectory)


def _points(trajectories: Tensor) -> tuple[Tensor, Tensor]:
    """(N, T', 3) -> points (T + 1, N, 3), and which of the last T are there to be predicted, (T, N)."""
    lengths = (trajectories[..., 2] != PAST_THE_END).sum(1) - 1
    T = int(lengths.max())
    return trajectories[:, : T + 1].transpose(0, 1), torch.arange(T, device=lengths.device)[:, None] < lengths


class Walk:
    """The first layer and its window, step by step from the start of a text."""

    def __init__(self, layer: Any, window: TextWindow, symbols: Tensor):
        """symbols: one-hot (N, U, V)."""
        self.layer, self.window, self.symbols = layer, window, symbols
        N, U, V = symbols.shape
        # One place more than there are symbols: what lies behind the text.
        self.places = torch.arange(1, U + 2, dtype=symbols.dtype, device=symbols.device)
        self.kappa = symbols.new_zeros(N, window.gaussians)
        self.phi, self.w = symbols.new_zeros(N, U + 1), symbols.new_zeros(N, V)
        self.state = None
        self.t = 0

    def step(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, I) of a point -> h (N, H), w (N, V)."""
        y, self.state = self.layer(torch.cat((x, self.w), -1)[None], self.state, start=self.t)
        self.phi, self.kappa = self.window(y[0], self.kappa, self.places)
        self.w = (self.phi[:, None, :-1] @ self.symbols)[:, 0]
        self.t += 1
        return y[0], self.w

    @property
    def past_the_text(self) -> bool:
        """Whether the window of a single case has left its last symbol behind."""
        return bool((self.phi[0, -1] > self.phi[0, :-1]).all())
