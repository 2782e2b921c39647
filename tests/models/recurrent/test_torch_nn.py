"""Without a norm the layers are those of torch.nn."""

import pytest
import torch

from models.recurrent import CELLS
from tests.helpers.recurrent import (
    TORCH,
    D,
    H,
    N,
    T,
    as_hx,
    as_tuple,
    assert_same_with_gradients,
    make,
    noise,
    states_like,
)


@pytest.mark.parametrize("given_state", [False, True], ids=["zero_state", "given_state"])
@pytest.mark.parametrize("layout", ["TNI", "NTI", "unbatched"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both_ways"])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_without_norm_equals_torch(cell, num_layers, bidirectional, bias, layout, given_state):
    settings = {
        "num_layers": num_layers,
        "bidirectional": bidirectional,
        "bias": bias,
        "batch_first": layout == "NTI",
    }
    ours, torchs = make(cell, **settings), TORCH[cell](D, H, **settings).double()
    torchs.load_state_dict(ours.state_dict())
    back = CELLS[cell](D, H, **settings).double()
    back.load_state_dict(torchs.state_dict())
    rows = num_layers * (2 if bidirectional else 1)
    x = noise(*{"TNI": (T, N, D), "NTI": (N, T, D), "unbatched": (T, D)}[layout]).requires_grad_()
    states = states_like(cell, *((rows, H) if layout == "unbatched" else (rows, N, H))) if given_state else ()
    outcomes = []
    for module in (back, torchs):
        y, final = module(x, as_hx(states)) if given_state else module(x)
        assert isinstance(final, tuple) == (cell == "lstm")
        outcomes.append((y, *as_tuple(final)))
    names = [name for name, _ in torchs.named_parameters()]
    assert sorted(names) == sorted(name for name, _ in back.named_parameters())
    leaves = [[x, *states, *(module.get_parameter(name) for name in names)] for module in (back, torchs)]
    assert_same_with_gradients(*outcomes, *leaves)


@pytest.mark.parametrize("cell", CELLS)
def test_the_start_is_torchs(cell):
    """Uniform within 1/sqrt(H), and drawn in the same order: the same seed, the same layer."""
    layers = []
    for module in (CELLS[cell], TORCH[cell]):
        torch.manual_seed(0)
        layers.append(dict(module(D, H, num_layers=2).named_parameters()))
    ours, torchs = layers
    assert all(torch.equal(ours[name], torchs[name]) for name in torchs)
