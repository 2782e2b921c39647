"""Derivatives that no kernel has: of gradients, of batches of gradients, forward ones; and transforms of torch.func."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.autograd.functional import hessian, jacobian

from models.errors import ModelError
from models.recurrent import CELLS
from tests.helpers.fused import PLACES, call, gradients, make, noise, states_of, twin

CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.mark.parametrize("norm", ["none", "ln", "gn", "rms", "bn", "bn_unbiased", "bn_eval"])
@pytest.mark.parametrize("cell, placement", PLACES)
def test_gradients_of_gradients_are_those_of_the_equations(cell, placement, norm):
    """Of the norm of all gradients, as for a gradient penalty, by everything."""
    name, _, kind = norm.partition("_")
    options = {"unbiased": True} if kind == "unbiased" else {}
    layer = make(cell, 6, name, placement, bidirectional=True, options=options)
    layer(noise(2, 4, 5))
    layer.train(kind != "eval")
    found = []
    for module in (layer, twin(layer, "reference")):
        x, states = noise(3, 4, 5).requires_grad_(), [state.requires_grad_() for state in states_of(module, 4)]
        leaves = [x, *states, *module.parameters()]
        first = torch.autograd.grad(call(module, x, states)[0].square().sum(), leaves, create_graph=True)
        penalty = sum(gradient.square().sum() for gradient in first)
        found.append([*first, *torch.autograd.grad(penalty, leaves)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_gradients_against_differences(cell):
    layer = make(cell, 3, "ln")
    x = noise(2, 2, 5).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))


@pytest.mark.parametrize("norm", ["ln", "bn"])
def test_gradients_of_gradients_with_lengths_and_resets(norm):
    layer = make("lstm", 6, norm, bidirectional=False)
    lengths, reset, found = [5, 2, 3, 1], noise(5, 4, seed=3) > 0.8, []
    layer(noise(5, 4, 5))
    for module in (layer, twin(layer, "reference")):
        x = noise(5, 4, 5).requires_grad_()
        y, _ = module(x, lengths=lengths, reset=reset)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        found.append([first, *torch.autograd.grad(first.square().sum(), [x, *module.parameters()])])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def test_a_tensor_that_comes_in_twice_has_two_gradients():
    layer = make("lstm", 6, "ln")
    found = []
    for module in (layer, twin(layer, "reference")):
        state = noise(1, 4, 6).requires_grad_()
        (first,) = torch.autograd.grad(module(noise(3, 4, 5), (state, state))[0].sum(), state, create_graph=True)
        found.append([first, *torch.autograd.grad(first.square().sum(), state)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def test_a_graph_is_retained_past_its_second_derivatives(layer):
    outputs = call(layer, noise(4, 3, 5))
    expected = [g.clone() for g in gradients(layer, outputs, retain_graph=True)]
    gradients(layer, outputs, create_graph=True)
    for given, value in zip(gradients(layer, outputs), expected, strict=True):
        assert torch.equal(given, value)


@pytest.mark.parametrize("norm", ["ln", "bn"])
def test_jacobians_and_batched_gradients(layer, norm):
    if norm == "bn":
        layer = make(layer.cell, 18, "bn")
    x = noise(3, 4, 5)

    def function(x):
        return layer(x)[0].sum((0, 1))

    expected = jacobian(function, x)
    torch.testing.assert_close(jacobian(function, x, vectorize=True), expected, **CLOSE)
    leaf = x.clone().requires_grad_()
    rows = torch.eye(18, dtype=torch.float64)
    (batched,) = torch.autograd.grad(function(leaf), leaf, rows, is_grads_batched=True)
    torch.testing.assert_close(batched, expected, **CLOSE)


def test_hessians(layer):
    x = noise(2, 2, 5)
    expected = hessian(lambda x: twin(layer, "reference")(x)[0].square().sum(), x)
    for vectorize in (False, True):
        torch.testing.assert_close(
            hessian(lambda x: layer(x)[0].square().sum(), x, vectorize=vectorize), expected, **CLOSE
        )


def test_forward_mode_and_vmap(layer, fused_calls):
    x, direction = noise(3, 4, 5), noise(3, 4, 5, seed=1)
    layer.backend = "auto"
    (expected,) = (jacobian(lambda x: layer(x)[0], x).flatten(3) @ direction.flatten(),)
    with forward_ad.dual_level():
        y, _ = layer(forward_ad.make_dual(x, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(y).tangent, expected, **CLOSE)
        layer.backend = "fused"
        with pytest.raises(ModelError, match="forward-mode") as caught:
            layer(x)
    assert "\n" not in str(caught.value)
    layer.backend = "auto"
    torch.testing.assert_close(torch.func.jvp(lambda x: layer(x)[0], (x,), (direction,))[1], expected, **CLOSE)
    cases = torch.func.vmap(lambda x: layer(x)[0], in_dims=1, out_dims=1)(x)  # one sequence each
    torch.testing.assert_close(cases, layer(x)[0], **CLOSE)
    assert len(fused_calls) == 2
