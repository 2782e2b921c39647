"""Measurements inside networks, compared with the equations and with autograd."""

import pytest
import torch

from experiments.inspect import measure
from models.build import build
from models.create_norm import NormLayer
from models.recurrent import PLACEMENTS, equations
from models.settings import CNN
from tests.helpers.networks import LANGUAGE_NORMS as NORMS
from tests.helpers.networks import V, language_model

T, N, H = 6, 5, 8  # steps, cases, units
OF_GRU = [("gru", place) for place in PLACEMENTS if place != "cell_only"]  # a GRU has no cell state


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell, placement", [("lstm", place) for place in PLACEMENTS] + OF_GRU)
def test_gates_are_those_that_the_equations_compute(cell, norm, placement, monkeypatch):
    """The equations are run with a logistic function that notes what it gives."""
    model, x = language_model(cell, norm, placement=placement, backend="reference"), torch.randint(V, (N, T))
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
