"""Language models: inputs, states, initial weights."""

import itertools
import math

import pytest
import torch
from torch import nn

from models.build import build
from models.create_norm import NormLayer
from models.language_model import LanguageModel
from models.norms import NORMS
from models.recurrent import GRU, LSTM, RNN
from models.settings import Recurrent as RecurrentSettings
from tests.helpers.networks import V, batch, loss_of, size, tiny


@pytest.mark.parametrize("model, cls", [("rnn", RNN), ("lstm", LSTM), ("gru", GRU)])
@pytest.mark.parametrize("norm", ["none", "ln"])
def test_language_model_is_its_recurrent_layer_between_one_hot_and_softmax(model, cls, norm):
    network = tiny(model, norm)
    assert isinstance(network, LanguageModel) and type(network.recurrent) is cls and network.embedding is None
    tokens, _ = batch(model)
    logits, state = network(tokens)
    assert logits.shape == (*tokens.shape, V)
    y, expected_state = network.recurrent(torch.eye(V)[tokens])
    torch.testing.assert_close(logits, y @ network.output.weight.T + network.output.bias)
    torch.testing.assert_close(state, expected_state)


def test_one_hot_input_is_an_embedding_by_the_identity():
    one_hot = tiny("lstm")
    embedded = build(
        RecurrentSettings(name="lstm", hidden_size=8, input="embedding", embedding_size=V), (), V, NormLayer()
    )
    embedded.load_state_dict({**one_hot.state_dict(), "embedding.weight": torch.eye(V)})
    tokens, _ = batch("lstm")
    torch.testing.assert_close(embedded(tokens)[0], one_hot(tokens)[0])


def test_tied_matrices_are_one_parameter():
    network = tiny("gru_tied")
    assert network.output.weight is network.embedding.weight
    untied = build(
        RecurrentSettings(name="gru", hidden_size=8, input="embedding", embedding_size=8), (), V, NormLayer()
    )
    assert size(untied) - size(network) == V * 8
    loss_of(network, *batch("gru_tied")).backward()
    assert network.embedding.weight.grad.abs().sum(1).gt(0).all()


@pytest.mark.parametrize("model", ["rnn", "lstm", "gru", "lstm_embedding"])
def test_text_may_be_cut_and_the_state_handed_on(model):
    network = tiny(model, "ln")
    tokens, _ = batch(model)
    whole, state = network(tokens)
    head, carried = network(tokens[:, :2])
    tail, final = network(tokens[:, 2:], carried)
    torch.testing.assert_close(torch.cat([head, tail], 1), whole)
    torch.testing.assert_close(final, state)


def test_language_model_sees_no_future():
    network = tiny("lstm", "ln")
    tokens, _ = batch("lstm")
    changed = tokens.clone()
    changed[:, 3:] = (changed[:, 3:] + 1) % V
    a, b = network(tokens)[0], network(changed)[0]
    assert torch.equal(a[:, :3], b[:, :3]) and not torch.allclose(a[:, 3:], b[:, 3:])


def test_language_model_drops_its_input_between_layers_and_before_the_output(monkeypatch):
    settings = RecurrentSettings(hidden_size=8, num_layers=2, dropout=0.5)
    network = build(settings, (), V, NormLayer())
    tokens, _ = batch("lstm")
    shapes, dropout = [], nn.functional.dropout

    def spy(x, p, training):
        shapes.append((x.shape[-1], p, training))
        return dropout(x, p, training)

    monkeypatch.setattr(nn.functional, "dropout", spy)
    assert not torch.equal(network(tokens)[0], network(tokens)[0])
    assert shapes == 2 * [(V, 0.5, True), (8, 0.5, True), (8, 0.5, True)]
    network.eval()
    assert torch.equal(network(tokens)[0], network(tokens)[0])


@pytest.mark.parametrize("norm", ["none", "bn", "ln", "wn"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_recurrent_matrices_start_orthogonal_gate_by_gate(name, norm):
    H = 12
    network = build(RecurrentSettings(name=name, hidden_size=H, num_layers=2), (), V, NormLayer(norm))
    for layer in range(2):
        blocks = getattr(network.recurrent, f"weight_hh_l{layer}").split(H)
        assert len(blocks) == {"rnn": 1, "lstm": 4, "gru": 3}[name]
        for block in blocks:
            torch.testing.assert_close(block @ block.T, torch.eye(H), rtol=0, atol=1e-5)
        for one, other in itertools.combinations(blocks, 2):
            assert (one - other).abs().max() > 0.1, "the gates' blocks are drawn apart"


@pytest.mark.parametrize("norm", ["none", "ln"])
@pytest.mark.parametrize("name, forget_bias", [("lstm", 1.0), ("lstm", 2.5), ("gru", 1.0), ("rnn", 1.0)])
def test_biases_start_at_zero_but_the_forget_gates(name, forget_bias, norm):
    H = 8
    network = build(
        RecurrentSettings(name=name, hidden_size=H, num_layers=2, forget_bias=forget_bias), (), V, NormLayer(norm)
    )
    for layer in range(2):
        total = getattr(network.recurrent, f"bias_ih_l{layer}") + getattr(network.recurrent, f"bias_hh_l{layer}")
        expected = torch.zeros_like(total)
        if name == "lstm":
            expected[H : 2 * H] = forget_bias  # gate order i, f, g, o
        assert torch.equal(total, expected)
    assert not network.output.bias.any()


@pytest.mark.parametrize("norm", ["none", "wn"])
@pytest.mark.parametrize("input_scale", [1.0, 0.3])
@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"input": "embedding", "embedding_size": 40},
        {"input": "embedding", "embedding_size": 64, "tied": True},
    ],
    ids=["one_hot", "embedding", "tied"],
)
def test_summed_inputs_start_with_the_standard_deviation_asked_for(inputs, input_scale, norm):
    torch.manual_seed(0)
    settings = RecurrentSettings(hidden_size=64, input_scale=input_scale, **inputs)
    network = build(settings, (), 50, NormLayer(norm))
    x = torch.eye(50) if network.embedding is None else network.embedding.weight
    deviation = (x @ network.recurrent.weight_ih_l0.T).std().item()
    assert abs(deviation / input_scale - 1) < 0.1


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_output_matrix_starts_with_variance_one_over_hidden_size(tied):
    """So that logits start no larger than the hidden state, tied or not, and the first loss is near log V."""
    H = 64
    settings = RecurrentSettings(hidden_size=H, input="embedding", embedding_size=H, tied=tied)
    network = build(settings, (), 50, NormLayer())
    assert abs(network.output.weight.std().item() * H**0.5 - 1) < 0.1
    tokens = torch.randint(50, (20, 31))
    loss = loss_of(network, tokens[:, :-1], tokens[:, 1:]).item()
    assert abs(loss - math.log(50)) < 0.3


@pytest.mark.parametrize("norm", ["bn", "ln", "gn", "rms"])
@pytest.mark.parametrize(
    "placement, places",
    [
        ("paper", {"ih", "hh", "cell"}),
        ("per_gate", {"ih", "hh", "cell"}),
        ("cell_only", {"cell"}),
        ("input_only", {"ih"}),
        ("between_layers", {"out"}),
    ],
)
def test_language_model_hands_norm_options_and_placement_to_every_layer(placement, places, norm):
    settings = RecurrentSettings(hidden_size=8, num_layers=2, placement=placement)
    network = build(settings, (), V, NormLayer(norm, {"gain": 0.5, **({"groups": 2} if norm == "gn" else {})}))
    gains = {
        name.split(".")[0]: parameter
        for name, parameter in network.recurrent.named_parameters()
        if name.startswith("norm_") and name.endswith("weight")
    }
    assert gains.keys() == {f"norm_{place}_l{layer}" for place in places for layer in range(2)}
    assert all(torch.equal(gain, torch.full_like(gain, 0.5)) for gain in gains.values())
    assert sum(type(module) is NORMS[norm].cls for module in network.modules()) == (
        18 if placement == "per_gate" else 2 * len(places)
    )
