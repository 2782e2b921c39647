"""Gradients of the fused kernels against finite differences, in float64."""

import itertools

import pytest
import torch

from models.recurrent import CELLS, Recurrent
from tests.helpers.fused import PLACES, make, noise, states_of

# name: norm, H, options. 8 doubles or 16 floats make a vector, so none of these sizes is whole.
VARIANTS = {
    "ln": ("ln", 7, {}),
    "ln_18": ("ln", 18, {}),
    "gn_whole": ("gn", 7, {"groups": 1}),
    "gn_of_single_units": ("gn", 7, {"groups": 7}),
    "gn_18": ("gn", 18, {"groups": 6}),
    "rms": ("rms", 7, {}),
    "bn": ("bn", 7, {}),
    "bn_unbiased": ("bn", 7, {"unbiased": True}),
    "bn_eval": ("bn", 7, {}),
}


CASES = [(c, p, v) for (c, p), v in itertools.product(PLACES, VARIANTS) if v != "gn_of_single_units" or p == "paper"]


def check_gradients(layer: Recurrent, T: int = 3, N: int = 3):
    """torch.autograd.gradcheck by input, states and parameters; also with the gradients of some outputs missing."""
    names = [name for name, _ in layer.named_parameters()]
    leaves = [noise(T, N, layer.input_size, seed=5), *states_of(layer, N), *(p.detach() for p in layer.parameters())]
    count = layer.num_states

    def function(x, *rest):
        hx = rest[:count] if count == 2 else rest[0]
        y, final = torch.func.functional_call(layer, dict(zip(names, rest[count:], strict=True)), (x, hx))
        return (y, *final) if count == 2 else (y, final)

    assert torch.autograd.gradcheck(function, [leaf.clone().requires_grad_() for leaf in leaves], fast_mode=True)


@pytest.mark.parametrize("cell, placement, variant", CASES)
def test_gradients_are_the_derivatives(cell, placement, variant):
    norm, H, options = VARIANTS[variant]
    layer = make(cell, H, norm, placement, options=options, bidirectional=True)
    if variant == "bn_eval":
        for seed in range(2):
            layer(noise(2, 4, 5, seed=seed))  # one step fewer than what follows
        layer.eval()
    check_gradients(layer)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("norm", ["none", "wn"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_without_activations_normalised(cell, norm, bias):
    check_gradients(make(cell, 7, norm, bias=bias, bidirectional=True))


@pytest.mark.parametrize("norm", ["ln", "bn"])
@pytest.mark.parametrize("cell, placement", PLACES)
def test_gradients_without_biases(cell, placement, norm):
    check_gradients(make(cell, 7, norm, placement, bias=False))
