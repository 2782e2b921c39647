"""Batch statistics and the layer as a module under the fused backend."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from models.norms import BatchNorm
from models.recurrent import CELLS
from tests.helpers.fused import PLACES, assert_close, make, noise, run, states_of, twin

# --- batch normalisation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbiased", [False, True], ids=["biased", "unbiased"])
@pytest.mark.parametrize("cell, placement", PLACES)
def test_running_statistics_are_those_of_the_loop(cell, placement, unbiased):
    """Sequences longer and shorter than the one before, of other batches; then evaluation beyond the known steps."""
    options = {"unbiased": unbiased, "momentum": 0.3}
    layer = make(cell, 7, "bn", placement, bidirectional=True, options=options)
    plain = twin(layer, "reference")
    for seed, (T, N) in enumerate([(3, 4), (5, 3), (2, 6)]):
        x, states = noise(T, N, 5, seed=seed), states_of(layer, N, seed=seed)
        assert_close(run(layer, x, states), run(plain, x, states), 1e-11)
    ours, theirs = layer.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    assert any(name.endswith("running_var") and len(value) == 5 for name, value in ours.items())
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-11, atol=1e-11, msg=name)
    for T in (4, 8):
        x, states = noise(T, 3, 5, seed=7), states_of(layer, 3)
        assert_close(run(layer.eval(), x, states), run(plain.eval(), x, states), 1e-11)
    for name, value in ours.items():
        assert torch.equal(layer.state_dict()[name], value), "evaluation moves nothing"


def test_gradients_do_not_depend_on_the_statistics_having_been_tracked():
    """The moved running statistics are the batch's; without gradients they move as well."""
    layer = make("gru", 7, "bn")
    other = twin(layer, "fused")
    x = noise(3, 4, 5)
    layer(x)
    with torch.no_grad():
        other(x)
    norms = [[m for m in module.modules() if isinstance(m, BatchNorm)] for module in (layer, other)]
    for a, b in zip(*norms, strict=True):
        assert torch.equal(a.running_mean, b.running_mean) and torch.equal(a.running_var, b.running_var)
        assert a.running_mean.any()


def test_one_case_in_training_is_refused():
    with pytest.raises(ValueError, match="two values per channel"):
        make("gru", 7, "bn")(noise(3, 1, 5))


# --- the layer as a module --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "ln", "bn", "wn"])
@pytest.mark.parametrize("cell", CELLS)
def test_copies_and_saved_layers_compute_the_same(cell, norm):
    layer = make(cell, 9, norm, num_layers=2, bidirectional=True)
    x = noise(3, 4, 5)
    layer(x)[0].sum().backward()
    layer.eval()
    expected = layer(x)[0]
    layers = [copy.deepcopy(layer), make(cell, 9, norm, num_layers=2, bidirectional=True, seed=1).eval()]
    layers[1].load_state_dict(layer.state_dict())
    if norm != "wn":  # torch refuses to pickle what is parametrised
        layers.append(pickle.loads(pickle.dumps(layer)))
        buffer = io.BytesIO()
        torch.save(layer, buffer)
        buffer.seek(0)
        layers.append(torch.load(buffer, weights_only=False))
    for other in layers:
        assert other.backend == "fused"
        assert torch.equal(other(x)[0], expected)


@pytest.mark.parametrize("cell", CELLS)
def test_states_go_to_torch_and_back(cell):
    ours = make(cell, 9, num_layers=2, bidirectional=True)
    theirs = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](5, 9, 2, bidirectional=True).double()
    x = noise(3, 4, 5)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-10, atol=1e-10)
    nn.init.normal_(theirs.weight_hh_l1, std=0.2)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-10, atol=1e-10)
