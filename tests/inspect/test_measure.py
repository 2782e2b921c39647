"""Measurements inside networks, compared with the equations and with autograd."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from experiments.inspect import measure
from models.build import build
from models.create_norm import NormLayer
from models.language_model import LanguageModel
from models.norms import Normaliser
from models.recurrent import CELLS, PLACEMENTS, equations
from models.sequence_classifier import SequenceClassifier
from models.settings import CNN, ImageRecurrent, Recurrent

V, T, N, H = 7, 6, 5, 8  # vocabulary, steps, cases, units
NORMS = {"none": {}, "bn": {}, "ln": {}, "wn": {}, "gn": {"groups": 2}, "rms": {}}
OF_GRU = [("gru", place) for place in PLACEMENTS if place != "cell_only"]  # a GRU has no cell state


def language_model(cell: str, norm: str, placement: str = "paper", **more) -> LanguageModel:
    """Trained statistics, and random gains and shifts."""
    torch.manual_seed(0)
    settings = Recurrent(name=cell, hidden_size=H, num_layers=2, placement=placement, **more)
    model = LanguageModel(settings, (), V, NormLayer(norm, NORMS[norm]))
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    for _ in range(3):
        model(torch.randint(V, (N, T)))
    return model.eval()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell, placement", [("lstm", place) for place in PLACEMENTS] + OF_GRU)
def test_gates_are_those_that_the_equations_compute(cell, norm, placement, monkeypatch):
    """The equations are run with a logistic function that notes what it gives."""
    model, x = language_model(cell, norm, placement, backend="reference"), torch.randint(V, (N, T))
    noted = []

    class Noting:
        def __getattr__(self, name):
            return getattr(torch, name)

        @staticmethod
        def sigmoid(z):
            noted.append(torch.sigmoid(z))
            return noted[-1]

    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(equations, "torch", Noting())
        model(x)
    calls = torch.stack(noted).unflatten(0, (2, T, -1))  # layers, steps, calls
    if cell == "lstm":
        named = {name: calls[:, :, place] for name, place in (("forget", 0), ("input", 1), ("output", 2))}
    else:
        named = dict(zip(("reset", "update"), calls[:, :, 0].chunk(2, -1), strict=True))
    found = measure.gates(model, x, measure.hidden_states(model, x))
    assert len(found) == 2
    for layer, gates in enumerate(found):
        assert gates.keys() == named.keys()
        for name, values in gates.items():
            torch.testing.assert_close(values, named[name][layer], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_a_run_that_begins_at_the_step(cell, norm):
    """d loss_T / d h_t: the network is run from h_t on, which is a leaf. Batch normalisation as in training."""
    model = language_model(cell, norm)
    x, targets = torch.randint(V, (N, T)), torch.randint(V, (N, T))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = measure.gradients_through_time(model, x, targets)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for module in model.modules():
        if isinstance(module, Normaliser):
            module.train()
    state = None
    for t in range(T - 1):
        _, state = model(x[:, t : t + 1], state, start=t)
        leaves = [s.detach().requires_grad_() for s in (state if cell == "lstm" else (state,))]
        logits, _ = model(x[:, t + 1 :], tuple(leaves) if cell == "lstm" else leaves[0], start=t + 1)
        loss = F.cross_entropy(logits[:, -1], targets[:, -1], reduction="sum")
        for name, gradient in zip(("h", "c"), torch.autograd.grad(loss, leaves), strict=False):
            expected = gradient.norm(dim=(0, 2)).mean().item()
            assert found[name][t] == pytest.approx(expected, rel=1e-3), (name, t)
    assert all(len(course) == T - 1 for course in found.values()) and len(found) == (2 if cell == "lstm" else 1)


def test_gradients_of_a_classifier_over_pixels_with_batch_statistics_are_finite():
    """The first pixels are the same in every case: only the noise on the first state gives the batch a variance."""
    torch.manual_seed(0)
    model = SequenceClassifier(ImageRecurrent(hidden_size=H, order="pixels"), (1, 4, 4), 3, NormLayer("bn")).eval()
    images = torch.randn(N, 1, 4, 4)
    images[:, :, 0] = 0
    found = measure.gradients_through_time(model, images, torch.randint(3, (N,)))
    assert all(np.isfinite(course).all() and len(course) == 15 for course in found.values())


@pytest.mark.parametrize("norm", NORMS)
def test_activations_are_what_the_network_computes(norm):
    x = torch.randint(V, (N, T))
    model = language_model("gru", norm)
    y, _ = model.recurrent(model.inputs(x))
    found = measure.activations(model, x)
    assert list(found) == ["layer 1", "layer 2"]
    torch.testing.assert_close(found["layer 2"].sort()[0], y.detach().flatten().sort()[0])

    torch.manual_seed(0)
    cnn = build(CNN(depth=3, width=4), (1, 6, 6), 3, NormLayer(norm, NORMS[norm]))
    images = torch.randn(N, 1, 6, 6)
    cnn(images)
    found = measure.activations(cnn.eval(), images)
    assert list(found) == ["convs.0", "convs.1", "convs.2"]
    torch.testing.assert_close(found["convs.0"], cnn.convs[0](images).detach().flatten())


def test_parts_that_are_normalised_apart_are_pooled():
    a, b = 3 + 2 * torch.randn(1000, 16, dtype=torch.float64), torch.randn(1000, 8, dtype=torch.float64)
    parts = [(part.mean().item(), part.std(correction=0).item(), part.shape[1]) for part in (a, b)]
    whole = torch.cat([a, b], 1)
    assert measure._pooled(parts) == pytest.approx((whole.mean().item(), whole.std(correction=0).item()))
