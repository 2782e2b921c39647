"""The handwriting network against its equations, written as loops over Gaussians, symbols and steps in float64."""

import math

import pytest
import torch
from torch import Tensor

from models.build import build
from models.create_norm import NormLayer
from models.errors import ModelError
from models.handwriting import PAST_THE_END, HandwritingNetwork, Mixture, TextWindow
from models.norms import NORMS, LayerNorm
from models.settings import Handwriting

V, M, K = 4, 3, 2  # symbols, Gaussians of the mixture and of the window
EACH_CASE_ALONE = [norm for norm in NORMS if norm not in ("in", "bn")]
OPTIONS = {"gn": {"groups": 2}}


def network(norm: str = "none", window: int = 0, layers: int = 2, **settings) -> HandwritingNetwork:
    torch.manual_seed(0)
    sizes = Handwriting(hidden_size=6, num_layers=layers, input_units=4, mixtures=M, window=window, **settings)
    made = build(sizes, (3,), V, NormLayer(norm, OPTIONS.get(norm, {}))).double()
    for parameter in made.parameters():  # away from the start, where biases are 0 and gains 1
        parameter.data += 0.2 * torch.randn_like(parameter)
    return made


def batch(lengths=(5, 8, 3), symbols=(4, 2, 3)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    trajectories = torch.randn(len(lengths), max(lengths), 3, generator=generator, dtype=torch.float64)
    trajectories[..., 2] = (trajectories[..., 2] > 0).double()
    texts = torch.randint(V, (len(symbols), max(symbols)), generator=generator)
    for n, (points, count) in enumerate(zip(lengths, symbols, strict=True)):
        trajectories[n, points:], texts[n, count:] = PAST_THE_END, PAST_THE_END
    return trajectories, texts


def gradients(of: Tensor, inputs) -> tuple[Tensor, ...]:
    return torch.autograd.grad(of, inputs)


# --- the density ------------------------------------------------------------------------------------------------------


def explicit_nats(outputs: Tensor, point: Tensor) -> Tensor:
    """-log of Graves 2013, eq. 23, for one point: rho and densities as they stand there."""
    pen, pi, mean, sigma, rho = outputs.split((1, M, 2 * M, 2 * M, M))
    weights = [torch.exp(pi[j]) / sum(torch.exp(each) for each in pi) for j in range(M)]
    density = 0
    for j in range(M):
        s_1, s_2, r = torch.exp(sigma[2 * j]), torch.exp(sigma[2 * j + 1]), torch.tanh(rho[j])
        d_1, d_2 = point[0] - mean[2 * j], point[1] - mean[2 * j + 1]
        Z = (d_1 / s_1) ** 2 + (d_2 / s_2) ** 2 - 2 * r * d_1 * d_2 / (s_1 * s_2)
        normaliser = 2 * math.pi * s_1 * s_2 * torch.sqrt(1 - r**2)
        density = density + weights[j] * torch.exp(-Z / (2 * (1 - r**2))) / normaliser
    up = 1 / (1 + torch.exp(-pen[0]))
    return -torch.log(density) - torch.log(up if point[2] else 1 - up)


def test_the_density_is_that_of_the_equations():
    torch.manual_seed(2)
    outputs = torch.randn(5, 1 + 6 * M, dtype=torch.float64, requires_grad=True)
    points = torch.randn(5, 3, dtype=torch.float64)
    points[:, 2] = torch.tensor([0, 1, 0, 1, 1])
    got = Mixture.of(outputs).negative_log_likelihood(points)
    expected = torch.stack([explicit_nats(*case) for case in zip(outputs, points, strict=True)])
    torch.testing.assert_close(got, expected)
    weight = torch.arange(1.0, 6, dtype=torch.float64)
    torch.testing.assert_close(*(gradients((nats * weight).sum(), outputs) for nats in (got, expected)))


def test_the_density_is_finite_where_a_correlation_rounds_to_one_and_a_point_lies_far_off():
    outputs = torch.zeros(2, 1 + 6, requires_grad=True)
    with torch.no_grad():
        outputs[:, -1] = 12.0  # tanh is 1 in float32
    nats = Mixture.of(outputs).negative_log_likelihood(torch.tensor([[0.1, 0.1, 0.0], [70.0, 70.0, 1.0]]))
    # On the diagonal Z / (1 - rho^2) is z^2 (1 + exp(-2 r)) in all.
    diagonal = torch.tensor([0.1, 70.0]) ** 2 / 2 + math.log(2 * math.pi) - (12 - math.log(2)) + math.log(2)
    torch.testing.assert_close(nats, diagonal)
    (gradient,) = gradients(nats.sum(), [outputs])
    assert gradient.isfinite().all()


def test_samples_have_the_moments_of_the_mixture():
    torch.manual_seed(3)
    one = torch.randn(1 + 6 * M, dtype=torch.float64)
    mixture = Mixture.of(one.expand(40_000, -1))
    for temperature in (1.0, 0.5):
        points = mixture.sample(temperature, torch.Generator().manual_seed(0))
        pi, mean = (one[1 : 1 + M] / temperature).softmax(0), one[1 + M : 1 + 3 * M].view(M, 2)
        sigma, rho = one[1 + 3 * M : 1 + 5 * M].view(M, 2).exp(), one[1 + 5 * M :].tanh()
        covariance = torch.zeros(2, 2, dtype=torch.float64)
        for j in range(M):
            within = torch.outer(sigma[j], sigma[j]) * temperature
            within[0, 1] *= rho[j]
            within[1, 0] *= rho[j]
            off = mean[j] - pi @ mean
            covariance += pi[j] * (within + torch.outer(off, off))
        spread = covariance.diagonal().max().sqrt().item()
        torch.testing.assert_close(points[:, :2].mean(0), pi @ mean, rtol=0, atol=0.03 * spread)
        torch.testing.assert_close(points[:, :2].T.cov(), covariance, rtol=0, atol=0.05 * spread**2)
        assert points[:, 2].mean().item() == pytest.approx(one[0].sigmoid().item(), abs=0.01)
    likeliest = mixture.sample(0)[0]
    assert torch.equal(likeliest[:2], mean[one[1 : 1 + M].argmax()]) and likeliest[2] == (one[0] > 0)


# --- the window -------------------------------------------------------------------------------------------------------


def explicit_phi(window: TextWindow, h: Tensor, kappa: Tensor, u: int) -> tuple[Tensor, list[Tensor]]:
    """phi(t, u) of one case, and the new kappa (Graves 2013, eq. 46 and 48 to 51)."""
    alpha, beta, move = window.parameters_of(h).chunk(3)
    kappa = [kappa[k] + torch.exp(move[k]) for k in range(K)]
    return sum(torch.exp(alpha[k]) * torch.exp(-torch.exp(beta[k]) * (kappa[k] - u) ** 2) for k in range(K)), kappa


def test_the_window_is_that_of_the_equations():
    torch.manual_seed(4)
    window = TextWindow(6, K).double()
    h, kappa = torch.randn(3, 6).double().requires_grad_(), torch.rand(3, K).double().requires_grad_()
    phi, moved = window(h, kappa, torch.arange(1, 6).double())
    expected = torch.stack(
        [torch.stack([explicit_phi(window, *case, u)[0] for u in range(1, 6)]) for case in zip(h, kappa, strict=True)]
    )
    torch.testing.assert_close(phi, expected)
    torch.testing.assert_close(
        moved, torch.stack([torch.stack(explicit_phi(window, *case, 1)[1]) for case in zip(h, kappa, strict=True)])
    )
    inputs = [h, kappa, *window.parameters()]
    weight = torch.randn(3, 5).double()
    torch.testing.assert_close(*(gradients((each * weight).sum(), inputs) for each in (phi, expected)))


# --- the network ------------------------------------------------------------------------------------------------------


def explicit(model: HandwritingNetwork, points: Tensor, text: Tensor | None) -> Tensor:
    """-log p of one trajectory (T, 3): step by step, point by point; the cells have tests of their own."""
    states: list = [None] * len(model.layers)
    kappa, w = torch.zeros(K, dtype=torch.float64), torch.zeros(V, dtype=torch.float64)
    nats = torch.zeros((), dtype=torch.float64)
    for t in range(len(points) - 1):
        x = torch.tanh(model.embedding.weight @ points[t] + model.embedding.bias)
        hidden: list[Tensor] = []
        for k, layer in enumerate(model.layers):
            read = [x, *([w] if text is not None else []), *hidden[-1:]]
            y, states[k] = layer(torch.cat(read)[None, None], states[k], start=t)
            hidden.append(y[0, 0])
            if k == 0 and text is not None:
                w = torch.zeros(V, dtype=torch.float64)
                for u, symbol in enumerate(text.tolist(), start=1):
                    phi, moved = explicit_phi(model.window, hidden[0], kappa, u)
                    w = w + phi * torch.eye(V, dtype=torch.float64)[symbol]
                kappa = torch.stack(moved)
        nats = nats + explicit_nats(model.output(torch.cat(hidden)), points[t + 1])
    return nats


@pytest.mark.parametrize("window", [0, K])
@pytest.mark.parametrize("norm", ["none", "ln", "wn"])
def test_the_likelihood_is_that_of_the_equations(norm, window):
    model, (trajectories, texts) = network(norm, window), batch((4,), (3,))
    got, expected = model(trajectories, texts), explicit(model, trajectories[0], texts[0] if window else None)
    torch.testing.assert_close(got, expected[None])
    inputs = list(model.parameters())
    torch.testing.assert_close(*(gradients(nats.sum(), inputs) for nats in (got, expected)))


@pytest.mark.parametrize("window", [0, K])
@pytest.mark.parametrize("norm", EACH_CASE_ALONE)
def test_a_batch_of_several_lengths_is_its_trajectories_one_by_one(norm, window):
    lengths, symbols = (5, 8, 3), (4, 2, 3)
    model, (trajectories, texts) = network(norm, window), batch(lengths, symbols)
    together = model(trajectories, texts)
    alone = torch.cat(
        [
            model(trajectories[n : n + 1, :T], texts[n : n + 1, :U])
            for n, (T, U) in enumerate(zip(lengths, symbols, strict=True))
        ]
    )
    torch.testing.assert_close(together, alone)
    inputs = list(model.parameters())
    torch.testing.assert_close(*(gradients(nats.sum(), inputs) for nats in (together, alone)))


def test_batch_statistics_are_of_the_points_that_are_there():
    """What stands in the padding changes nothing."""
    trajectories, texts = batch()
    wider = torch.nn.functional.pad(trajectories, (0, 0, 0, 4), value=PAST_THE_END)
    other = wider.clone()
    other[..., :2][wider[..., 2] == PAST_THE_END] = 7.0
    nats = [network("bn")(each, texts) for each in (trajectories, wider, other)]
    assert torch.equal(nats[0], nats[1]) and torch.equal(nats[0], nats[2])


@pytest.mark.parametrize("norm, window", [*((norm, 0) for norm in NORMS if norm != "in"), ("ln", K), ("none", K)])
def test_every_parameter_has_a_gradient(norm, window):
    model = network(norm, window, layers=3)
    model(*batch()).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_the_kernels_and_the_equations_agree():
    for window in (0, K):
        fused, reference = (network("ln", window, backend=backend) for backend in ("fused", "reference"))
        torch.testing.assert_close(*(model(*batch()) for model in (fused, reference)))


def test_the_normalisers_stand_where_the_papers_equations_have_them():
    """Eq. 20 to 22: of both summed inputs of the gates, and of the cell."""
    for layer in network("ln").layers:
        assert all(isinstance(getattr(layer, f"norm_{role}_l0"), LayerNorm) for role in ("ih", "hh", "cell"))


def test_hidden_states_are_those_that_the_output_reads():
    model, read = network("ln", K, layers=3), []
    model.output.register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
    model(*batch((5, 8, 3)))
    states = model.hidden_states(*batch((5, 8, 3)))
    assert states.shape == (4 + 7 + 2, 3, 6) and torch.equal(states.flatten(1), read[0])


def test_summed_inputs_start_at_a_scale_of_one():
    """In every layer, so that the un-normalised network is no straw man."""
    torch.manual_seed(0)
    model = build(Handwriting(hidden_size=64), (3,), V, NormLayer("none"))
    points = torch.randn(40, 16, 3)
    points[..., 2] = (points[..., 2] > 1.8).float()
    x, below = torch.tanh(model.embedding(points)), None
    for layer in model.layers:
        read = x if below is None else torch.cat((x, below), -1)
        assert (read @ layer.weight_ih_l0.T).std().item() == pytest.approx(1.0, abs=0.15)
        below, _ = layer(read)


# --- samples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm, window", [("ln", 0), ("bn", 0), ("none", K)])
def test_what_is_drawn_has_the_densities_that_training_gives_it(norm, window):
    model = network(norm, window)
    model(*batch())  # statistics for bn
    model.eval()
    text = torch.tensor([1, 0, 3]) if window else None
    outputs: list[Tensor] = []
    handle = model.output.register_forward_hook(lambda _, __, output: outputs.append(output))
    drawn = model.sample(12, text, generator=torch.Generator().manual_seed(5))
    while_drawing, outputs[:] = torch.cat(outputs), []
    model(drawn[None], None if text is None else text[None])
    handle.remove()
    torch.testing.assert_close(while_drawing, outputs[0])
    again, other = (model.sample(12, text, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6))
    assert torch.equal(drawn, again) and not torch.equal(drawn[:2], other[:2]) and not drawn[0].any()


def test_a_text_is_written_until_the_window_has_passed_it():
    model = network("ln", K)
    with torch.no_grad():
        model.window.parameters_of.weight.zero_()
        alpha, beta, move = model.window.parameters_of.bias.chunk(3)
        alpha.zero_()
        beta.zero_()
        move.fill_(math.log(0.5))  # half a symbol a step: past 3 symbols, nearer to place 4, after the eighth
    text = torch.tensor([1, 0, 3])
    assert len(model.sample(50, text)) == 1 + 8
    assert len(model.sample(5, text)) == 5, "at most so many points"


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused():
    with pytest.raises(ModelError, match=r"norm=bn .* model.window=2 .* use model.window=0 or norm=ln"):
        network("bn", K)
    with pytest.raises(ModelError, match="norm=in is refused"):
        network("in")
    with pytest.raises(ValueError, match="this network writes a text; give one"):
        network("ln", K)(batch()[0])
