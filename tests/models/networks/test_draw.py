"""DRAW against its equations, written as loops over pixels and filters in float64."""

import math

import pytest
import torch

from models.build import build
from models.create_norm import NormLayer
from models.draw import DRAW, Window
from models.errors import ModelError
from models.norms import NORMS, LayerNorm, NoNorm
from models.settings import Draw

SHAPE = (1, 6, 4)
SETTINGS = Draw(hidden_size=5, glimpses=3, latent_size=2, read_size=2, write_size=3)


def network(norm: str = "none", shape=SHAPE, **options) -> DRAW:
    torch.manual_seed(0)
    made = build(SETTINGS, shape, 2, NormLayer(norm, options)).double()
    for parameter in made.parameters():  # away from the start, where biases are 0 and gains 1
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def images(count: int = 3) -> torch.Tensor:
    return torch.randint(2, (count, *SHAPE), generator=torch.Generator().manual_seed(1)).double()


def s(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def filters(window: Window, h: torch.Tensor) -> tuple[list[list[float]], list[list[float]], float]:
    """F_x, F_y and gamma of one case, entry by entry (Gregor et al. 2015, eq. 19 to 26); positions count from 1."""
    g_x, g_y, log_variance, log_delta, log_gamma = window.parameters_of(h).tolist()
    A, B, n = window.width, window.height, window.size
    centre = {A: (A + 1) / 2 * (g_x + 1), B: (B + 1) / 2 * (g_y + 1)}
    delta = (max(A, B) - 1) / (n - 1) * math.exp(log_delta)
    found = []
    for side in (A, B):
        rows = []
        for i in range(1, n + 1):
            mu = centre[side] + (i - n / 2 - 0.5) * delta
            row = [math.exp(-((a - mu) ** 2) / (2 * math.exp(log_variance))) for a in range(1, side + 1)]
            rows.append([value / sum(row) for value in row])
        found.append(rows)
    return found[0], found[1], math.exp(log_gamma)


def bound_of(model: DRAW, x: torch.Tensor, noise: torch.Tensor) -> float:
    """The bound of one image x (H, W), every sum written out but the cells', which have tests of their own."""
    height, width = x.shape
    canvas = [[0.0] * width for _ in range(height)]
    h = torch.zeros(SETTINGS.hidden_size, dtype=torch.float64)
    encoder = decoder = (h[None, None], h[None, None])
    divergence = 0.0
    for t in range(SETTINGS.glimpses):
        F_x, F_y, gamma = filters(model.reader, h)
        error = [[float(x[b, a]) - s(canvas[b][a]) for a in range(width)] for b in range(height)]
        read = []
        for image in (x.tolist(), error):
            for i in range(model.reader.size):
                for j in range(model.reader.size):
                    pairs = [(b, a) for b in range(height) for a in range(width)]
                    read.append(gamma * sum(F_y[i][b] * image[b][a] * F_x[j][a] for b, a in pairs))
        inputs = torch.cat((torch.tensor(read, dtype=torch.float64), h))
        y, encoder = model.encoder(inputs[None, None], encoder, start=t)
        latent = model.latent(y[0, 0]).tolist()
        z = []
        for k in range(SETTINGS.latent_size):
            mu, sigma = latent[k], math.exp(latent[SETTINGS.latent_size + k])
            z.append(mu + sigma * float(noise[t, k]))
            divergence += 0.5 * (mu**2 + sigma**2 - math.log(sigma**2)) - 0.5
        y, decoder = model.decoder(torch.tensor(z, dtype=torch.float64)[None, None], decoder, start=t)
        h = y[0, 0]
        F_x, F_y, gamma = filters(model.writer, h)
        n = model.writer.size
        w = model.patch(h).view(n, n).tolist()
        for b in range(height):
            for a in range(width):
                canvas[b][a] += sum(F_y[i][b] * w[i][j] * F_x[j][a] for i in range(n) for j in range(n)) / gamma
    pixels = [(float(x[b, a]), s(canvas[b][a])) for b in range(height) for a in range(width)]
    return divergence - sum(math.log(p if value else 1 - p) for value, p in pixels)


@pytest.mark.parametrize("norm", ["none", "ln", "wn"])
def test_the_bound_is_that_of_the_equations(norm):
    model, x = network(norm).eval(), images()
    noise = model._noise(len(x), x[:, 0])
    expected = [bound_of(model, x[n, 0], noise[:, n]) for n in range(len(x))]
    torch.testing.assert_close(model(x), torch.tensor(expected, dtype=torch.float64))


def test_the_normaliser_stands_at_the_cells_output_alone():
    """The paper's appendix: the gates of DRAW's LSTMs are not normalised."""
    model = network("ln")
    for layer in (model.encoder, model.decoder):
        assert isinstance(layer.norm_cell_l0, LayerNorm)
        assert all(isinstance(getattr(layer, f"norm_{role}_l0"), NoNorm) for role in ("ih", "hh", "sum", "out"))


def test_evaluation_draws_the_same_latent_variables_each_time_and_none_of_the_default_generator():
    model, x = network("ln").eval(), images()
    before = torch.get_rng_state()
    assert torch.equal(model(x), model(x)) and torch.equal(torch.get_rng_state(), before)
    model.train()
    assert not torch.equal(model(x), model(x)), "training draws anew"


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm not in ("in", "gn")])
def test_every_parameter_has_a_gradient(norm):
    model = network(norm)
    model(images(8)).mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_the_kernels_and_the_equations_agree():
    model, x = network("ln").eval(), images()
    fused = model(x)
    for layer in (model.encoder, model.decoder):
        layer.backend = "reference"
    torch.testing.assert_close(model(x), fused)


def test_a_window_far_outside_the_image_is_finite():
    window = Window(2, 3, 6, 4)
    window.parameters_of.bias.data = torch.tensor([1e4, -1e4, -30.0, 0.0, 0.0])
    F_x, F_y, _ = window(torch.zeros(1, 2))
    assert torch.allclose(F_x.sum(-1), torch.ones(1, 3)) and torch.allclose(F_y.sum(-1), torch.ones(1, 3))


def test_samples_are_probabilities_and_follow_the_generator():
    model = network().eval()
    one, again, other = (model.sample(4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert one.shape == (4, *SHAPE) and ((one > 0) & (one < 1)).all()
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_a_window_larger_than_the_image_and_colours_are_refused():
    with pytest.raises(ModelError, match=r"model.write_size=3 is more than the image's 2 x 8 pixels; nearest: 2"):
        network(shape=(1, 2, 8))
    with pytest.raises(ModelError, match="one channel, and these have 3"):
        network(shape=(3, 8, 8))
