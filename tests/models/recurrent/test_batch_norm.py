"""Batch normalisation inside a recurrence."""

import pytest
import torch

from models.norms import BatchNorm
from models.recurrent import CELLS, Recurrent
from tests.helpers import reference
from tests.helpers.recurrent import (
    CELLS_AND_PLACEMENTS,
    CLOSE,
    D,
    H,
    N,
    T,
    as_hx,
    as_tuple,
    assert_same_with_gradients,
    by_the_equations,
    make,
    noise,
    states_like,
)


def batch_norms(layer: Recurrent) -> dict[str, BatchNorm]:
    return {name: module for name, module in layer.named_modules() if isinstance(module, BatchNorm)}


BN_PLACES = {"rnn": {"norm_sum_l0"}, "lstm": {"norm_ih_l0", "norm_hh_l0", "norm_cell_l0"}}


BN_PLACES["gru"] = {f"norm_{role}_l0.norms.{span}" for role in ("ih", "hh") for span in range(2)}


@pytest.mark.parametrize("cell", CELLS)
def test_batch_norm_keeps_statistics_for_every_step(cell):
    layer = make(cell, "bn")
    x = noise(T, N, D)
    layer(x)
    norms = batch_norms(layer)
    assert set(norms) == BN_PLACES[cell]
    for name, norm in norms.items():
        assert norm.running_mean.shape == norm.running_var.shape == (T, norm.num_features), name
        different = torch.pdist(norm.running_var)
        assert different.min() > 1e-6, f"two steps of {name} share their statistics"


def test_batch_norm_statistics_of_a_step_are_those_of_its_batch():
    """input_only: the summed inputs W_x x_t are known beforehand, so each step's running row is too."""
    layer = make("lstm", "bn", "input_only")
    first, second = noise(T, N, D, seed=1), noise(2, N, D, seed=2)  # the second sequence is shorter
    layer(first)
    layer(second)
    norm = layer.norm_ih_l0
    for t in range(T):
        mean, var = torch.zeros(4 * H, dtype=torch.float64), torch.ones(4 * H, dtype=torch.float64)
        for x in (first, second):
            if t < len(x):
                mean, var = reference.bn_running(mean, var, x[t] @ layer.weight_ih_l0.T, 0.1)
        torch.testing.assert_close(norm.running_mean[t], mean, **CLOSE)
        torch.testing.assert_close(norm.running_var[t], var, **CLOSE)


@pytest.mark.parametrize("cell, placement", CELLS_AND_PLACEMENTS)
def test_batch_norm_in_evaluation_uses_the_steps_row_and_the_last_one_beyond(cell, placement):
    layer = make(cell, "bn", placement)
    for seed in range(3):
        layer(noise(3, N, D, seed=seed))
    layer.eval()
    x = noise(5, 2, D, seed=9).requires_grad_()  # two steps longer than in training
    states = states_like(cell, 1, 2, H)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    expected = by_the_equations(cell, layer, x, states, "bn", placement)
    y, final = layer(x, as_hx(states))
    assert_same_with_gradients((y, *as_tuple(final)), expected, [x, *states, *layer.parameters()])
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert layer(x[:, :1])[0].isfinite().all(), "one case is enough in evaluation"


def test_batch_norm_steps_of_the_backward_direction_start_at_the_end():
    """Both directions have the same weights: on a palindrome they must gather the same statistics, step for step."""
    layer = make("lstm", "bn", bidirectional=True)
    layer.load_state_dict({name: layer.state_dict()[name.replace("_reverse", "")] for name in layer.state_dict()})
    x = noise(T, N, D)
    layer(torch.cat([x, x.flip(0)[1:]]))  # a palindrome
    for role in ("ih", "hh", "cell"):
        forward, backward = (getattr(layer, f"norm_{role}_l0{direction}") for direction in ("", "_reverse"))
        torch.testing.assert_close(forward.running_mean, backward.running_mean, **CLOSE)
        torch.testing.assert_close(forward.running_var, backward.running_var, **CLOSE)


@pytest.mark.parametrize("placement", ["paper", "per_gate"])
@pytest.mark.parametrize("cell", CELLS)
def test_batch_norm_state_goes_into_a_fresh_layer(cell, placement):
    trained, fresh = make(cell, "bn", placement), make(cell, "bn", placement)
    for seed in range(3):
        trained(noise(T, N, D, seed=seed))
    fresh.load_state_dict(trained.state_dict())
    x = noise(T + 1, N, D, seed=9)
    torch.testing.assert_close(fresh.eval()(x)[0], trained.eval()(x)[0], rtol=0, atol=0)
    fresh.train()(x)  # and it grows on
    assert all(len(norm.running_mean) == T + 1 for norm in batch_norms(fresh).values())


def test_batch_norm_refuses_one_case_in_training():
    with pytest.raises(ValueError, match="two values per channel"):
        make("lstm", "bn")(noise(T, 1, D))
