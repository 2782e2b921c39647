"""Order embeddings against their equations, written as loops over pairs and coordinates in float64."""

import copy

import pytest
import torch

from models.build import build
from models.create_norm import NormLayer
from models.norms import NORMS, LayerNorm
from models.order_embedding import PADDING, OrderEmbedding, scores
from models.settings import OrderEmbedding as Settings
from tests.helpers.recurrent import assert_same_with_gradients

V, T, H = 9, 6, 4
LENGTHS = [[6, 2], [1, 3], [3, 3], [2, 1], [4, 5]]
RECURRENT = [norm for norm in NORMS if norm != "in"]


def network(norm: str = "none", **changed) -> OrderEmbedding:
    torch.manual_seed(0)
    settings = Settings(**{"hidden_size": H, "embedding_size": 3, **changed})
    made = build(settings, (2, T), V, NormLayer(norm, {"groups": 2} if norm == "gn" else {})).double()
    for parameter in made.parameters():  # away from the start, where biases are 0 and gains 1
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def pairs() -> torch.Tensor:
    """Pairs (5, 2, T) of several lengths, 0 behind their ends."""
    sentences = torch.randint(1, V, (len(LENGTHS), 2, T), generator=torch.Generator().manual_seed(1))
    return sentences.where(torch.arange(T) < torch.tensor(LENGTHS)[:, :, None], PADDING)


def embeddings(count: int = 5) -> torch.Tensor:
    drawn = torch.rand(count, 2, H, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return (drawn / drawn.norm(dim=-1, keepdim=True)).requires_grad_()


def score(a, b):
    """-||max(0, b - a)||^2 of two vectors, coordinate by coordinate."""
    total = 0.0
    for h in range(H):
        if b[h] > a[h]:
            total = total - (b[h] - a[h]) ** 2
    return total


def loss_by_loops(x, margin):
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(x)):
        right = score(x[i, 0], x[i, 1])
        for j in range(len(x)):
            if j != i:
                for wrong in (score(x[i, 0], x[j, 1]), score(x[j, 0], x[i, 1])):
                    if margin - right + wrong > 0:
                        total = total + margin - right + wrong
    return total / len(x)


def test_scores_are_those_of_every_pair_with_their_gradients():
    x = embeddings()
    expected = torch.stack([torch.stack([torch.as_tensor(score(a, b)) for b in x[:, 1]]) for a in x[:, 0]])
    assert_same_with_gradients([scores(x[:, 0], x[:, 1])], [expected], [x])
    a = torch.tensor([[3.0, 4.0]])
    assert scores(a, torch.tensor([[3.0, 1.0]])).item() == 0, "b is more general than a"
    assert scores(a, torch.tensor([[5.0, 5.0]])).item() == -5


@pytest.mark.parametrize("margin", [0.05, 0.5])
def test_the_loss_is_the_sum_of_hinges_over_all_negatives_of_both_directions(margin):
    x = embeddings()
    loss = network(margin=margin).ranking_loss(x)
    expected = loss_by_loops(x, margin)
    assert_same_with_gradients([loss], [expected], [x])
    assert loss > 0
    if margin == 0.05:
        assert (margin - scores(*x.unbind(1)).diag() + scores(*x.unbind(1)) < 0).any(), "some hinges are at rest"


def test_the_loss_of_well_separated_pairs_is_zero_and_of_a_collapse_the_margin():
    model, far, alike = network(), torch.eye(H).double(), torch.ones(5, 2, H).double()
    assert model.ranking_loss(torch.stack((far, far), 1)) == 0
    assert model.ranking_loss(alike).item() == pytest.approx(2 * 4 * 0.05)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("norm", RECURRENT)
def test_sentences_of_several_lengths_are_embedded_as_each_by_itself(norm, shared):
    """In evaluation mode, where batch normalisation has running statistics."""
    model, x = network(norm, shared=shared), pairs()
    if norm == "bn":
        for _ in range(3):
            model(x)  # moves the running statistics
    model.eval()
    together = model(x)
    alone = torch.stack(
        [
            torch.stack([model.encode(x[n, side : side + 1, :length], side)[0] for side, length in enumerate(lengths)])
            for n, lengths in enumerate(LENGTHS)
        ]
    )
    assert_same_with_gradients([together], [alone], list(model.parameters()))
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(5, 2).double())
    assert (together >= 0).all()


def test_batch_statistics_are_of_real_words_alone():
    """In training more padding behind all sentences changes nothing, nor does what the padding's vector holds."""
    model, x = network("bn"), pairs()
    wider = torch.cat([x, torch.full((len(x), 2, 3), PADDING)], -1)
    expected = copy.deepcopy(model)(x)
    assert torch.equal(copy.deepcopy(model)(wider), expected) and expected.isfinite().all()
    model.words.weight.data[PADDING] = 1e6
    assert torch.equal(model(wider), expected)


def test_the_embedding_is_the_last_output_made_positive_and_of_length_one():
    model, x = network("ln", num_layers=2), pairs()
    for n, lengths in enumerate(LENGTHS):
        for side, length in enumerate(lengths):
            _, final = model.encoders[0](model.words(x[n, side, :length])[:, None])
            h = final[-1, 0]
            torch.testing.assert_close(model(x)[n, side], h.abs() / h.square().sum().sqrt())


def test_two_languages_have_encoders_of_their_own_and_one_table_of_words():
    one, two = network(shared=True), network(shared=False)
    assert len(one.encoders) == 1 and len(two.encoders) == 2 and two.words.weight.shape == (V, 3)
    x = pairs()
    same = torch.stack((x[:, 0], x[:, 0]), 1)
    assert torch.equal(*one(same).unbind(1)) and not torch.allclose(*two(same).unbind(1))


@pytest.mark.parametrize("norm", RECURRENT)
def test_every_parameter_has_a_gradient_and_a_step_lowers_the_loss(norm):
    model, x = network(norm, shared=False), pairs()
    loss = model.ranking_loss(model(x))
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    assert model.ranking_loss(model(x)) < loss


def test_the_normaliser_stands_in_the_gru_and_kernels_and_equations_agree():
    model, x = network("ln"), pairs()
    assert all(isinstance(norm, LayerNorm) for norm in model.encoders[0].norm_ih_l0.norms)
    fused = model(x)
    model.encoders[0].backend = "reference"
    torch.testing.assert_close(model(x), fused)
