"""Skip-thoughts against their equations, step by step in float64."""

import copy

import pytest
import torch

from models.build import build
from models.create_norm import NormLayer
from models.norms import NORMS, LayerNorm
from models.settings import SkipThoughts as Settings
from models.skip_thoughts import END, SkipThoughts
from tests.helpers.recurrent import assert_same_with_gradients

V, T, E, H = 9, 6, 3, 4
LENGTHS = [[6, 2, 1], [1, 3, 4], [3, 6, 3], [2, 1, 5]]  # of the sentence before, the sentence, the sentence after
RECURRENT = [norm for norm in NORMS if norm != "in"]


def network(norm: str = "none", **changed) -> SkipThoughts:
    torch.manual_seed(0)
    settings = Settings(**{"hidden_size": H, "embedding_size": E, **changed})
    made = build(settings, (3, T), V, NormLayer(norm, {"groups": 2} if norm == "gn" else {})).double()
    for parameter in made.parameters():  # away from the start, where biases are 0 and gains 1
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def triples() -> torch.Tensor:
    """Sentences between their neighbours (4, 3, T) of several lengths, 0 behind their ends."""
    words = torch.randint(1, V, (len(LENGTHS), 3, T), generator=torch.Generator().manual_seed(1))
    return words.where(torch.arange(T) < torch.tensor(LENGTHS)[:, :, None], END)


def normalised(z, gain):
    """LN of a vector, unit by unit, without a shift; None for no normaliser."""
    if gain is None:
        return z
    mean = sum(z) / len(z)
    deviation = (sum((value - mean) ** 2 for value in z) / len(z) + 1e-5) ** 0.5
    return torch.stack([g * (value - mean) / deviation for g, value in zip(gain, z, strict=True)])


def gru(layer, W, inputs, bias=0.0):
    """The states after each of the input vectors, with what `bias` adds to W x of every gate and step.

    r, z = s( LN(W_x x + C h_i) + b + LN(U h) + b ), n = tanh( LN(...) + b + r (LN(U h) + b) ), h = (1 - z) n + z h
    """
    U, b_x, b_h = (layer.get_parameter(f"{name}_l0") for name in ("weight_hh", "bias_ih", "bias_hh"))
    gains: dict = {}
    for side in ("ih", "hh"):
        norm = getattr(layer, f"norm_{side}_l0")
        gains[side] = [each.weight for each in norm.norms] if layer.norm == "ln" else [None, None]
    h, states = torch.zeros(H, dtype=torch.float64), []
    for x in inputs:
        of_x, of_h = W @ x + bias, U @ h
        parts = []
        for z, side, b in ((of_x, "ih", b_x), (of_h, "hh", b_h)):
            gates, candidate = normalised(z[: 2 * H], gains[side][0]), normalised(z[2 * H :], gains[side][1])
            parts.append(torch.cat((gates, candidate)) + b)
        r, z = (torch.sigmoid(parts[0][k * H : (k + 1) * H] + parts[1][k * H : (k + 1) * H]) for k in (0, 1))
        n = torch.tanh(parts[0][2 * H :] + r * parts[1][2 * H :])
        h = (1 - z) * n + z * h
        states.append(h)
    return states


def by_the_equations(model: SkipThoughts, x: torch.Tensor) -> torch.Tensor:
    """-log p of both neighbours of every sentence: h_i as a bias C h_i of the decoder's gates."""
    rows = []
    for case, lengths in zip(x, LENGTHS, strict=True):
        before, middle, after = (sentence[:length].tolist() for sentence, length in zip(case, lengths, strict=True))
        h = gru(model.encoder, model.encoder.weight_ih_l0, [model.words.weight[w] for w in middle])[-1]
        row = []
        for decoder, words in zip(model.decoders, (before, after), strict=True):
            W, C = decoder.weight_ih_l0.split((E, H), 1)
            read = [model.words.weight[w] for w in (END, *words)]
            total = torch.zeros((), dtype=torch.float64)
            for state, word in zip(gru(decoder, W, read, C @ h), (*words, END), strict=True):
                logits = model.output.weight @ state + model.output.bias
                total = total - logits[word] + logits.exp().sum().log()
            row.append(total)
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("norm", ["none", "ln"])
def test_both_neighbours_are_predicted_by_the_equations(norm, backend):
    model, x = network(norm, backend=backend), triples()
    assert_same_with_gradients([model(x)], [by_the_equations(model, x)], list(model.parameters()))


@pytest.mark.parametrize("norm", RECURRENT)
def test_sentences_of_several_lengths_count_as_each_by_itself(norm):
    """In evaluation mode, where batch normalisation has running statistics."""
    model, x = network(norm), triples()
    if norm == "bn":
        for _ in range(3):
            model(x)  # moves the running statistics
    model.eval()
    alone = torch.cat([model(case[None, :, : max(lengths)]) for case, lengths in zip(x, LENGTHS, strict=True)])
    assert_same_with_gradients([model(x)], [alone], list(model.parameters()))
    states = torch.cat(
        [model.encode(case[None, :length]) for case, (_, length, _) in zip(x[:, 1], LENGTHS, strict=True)]
    )
    torch.testing.assert_close(model.encode(x[:, 1]), states)


def test_padding_changes_neither_batch_statistics_nor_gradients():
    model, x = network("bn"), triples()
    wider = torch.cat([x, torch.full((len(x), 3, 3), END)], -1)
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    expected, given = first(x), second(wider)
    expected.sum().backward()
    given.sum().backward()
    assert torch.equal(given, expected) and expected.isfinite().all()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_each_neighbour_has_a_decoder_and_depends_on_nothing_of_the_other():
    model, x = network("ln"), triples()
    other = x.clone()
    other[:, 2] = other[:, 2].flip(0)
    before, after = model(x).unbind(1)
    assert torch.equal(model(other)[:, 0], before) and not torch.equal(model(other)[:, 1], after)
    swapped = x[:, [2, 1, 0]]
    assert not torch.allclose(model(swapped).flip(1), model(x)), "the decoders are two"
    model.decoders[1].load_state_dict(model.decoders[0].state_dict())
    torch.testing.assert_close(model(swapped).flip(1), model(x))


def test_the_probabilities_of_all_sentences_of_a_length_sum_to_one():
    """With those that are longer: of no word or one, and of more."""
    model = network("ln")
    middle = torch.tensor([3, 5])
    ends = torch.zeros(V, 3, 2, dtype=torch.long)
    ends[:, 1], ends[:, 0, 0] = middle, torch.arange(V)
    with torch.no_grad():
        p = (-model(ends)[:, 0]).exp()  # row 0: a sentence of no word
        h = model.encode(middle[None])
        state, _ = model.decoders[0](torch.cat((model.words.weight[END], h[0]))[None, None])
        first = model.output(state[0, 0]).softmax(0)
    assert p[0].item() == pytest.approx(first[END].item())
    assert (p[1:] < first[1:]).all() and p.sum() < 1


def test_normalisers_stand_in_encoder_and_decoders_and_weights_start_alike():
    plain, normalised_one = (
        build(Settings(hidden_size=H, embedding_size=E), (3, T), V, NormLayer(norm)) for norm in ("none", "ln")
    )
    norms = [name for name, module in normalised_one.named_modules() if isinstance(module, LayerNorm)]
    assert {name.split(".norm_")[0] for name in norms} == {"encoder", "decoders.0", "decoders.1"}
    torch.manual_seed(3)
    first = build(Settings(hidden_size=H, embedding_size=E), (3, T), V, NormLayer("none")).state_dict()
    torch.manual_seed(3)
    second = build(Settings(hidden_size=H, embedding_size=E), (3, T), V, NormLayer("ln")).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert plain.words.weight.shape == (V, E)
