"""The attentive reader against its equations, written as loops over steps and units in float64, with padding."""

import math

import pytest
import torch

from models.attentive_reader import AttentiveReader
from models.build import build
from models.create_norm import NormLayer
from models.norms import NORMS, BatchNorm
from models.settings import AttentiveReader as Settings

V, Q, P, CANDIDATES = 9, 4, 7, 3
QUESTIONS, PASSAGES = (3, 1, 4, 2), (2, 7, 5, 5)  # lengths
PER_CASE = [norm for norm in NORMS if norm not in ("in", "bn")]


def network(norm: str = "none", bidirectional: bool = True, **settings) -> AttentiveReader:
    torch.manual_seed(0)
    chosen = Settings(hidden_size=4, embedding_size=3, bidirectional=bidirectional, **settings)
    made = build(chosen, (V, Q, P), CANDIDATES, NormLayer(norm, {"groups": 2} if norm == "gn" else {})).double()
    for parameter in made.parameters():  # away from the start, where biases are 0 and gains 1
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made


def questions() -> torch.Tensor:
    """Questions and passages of several lengths, (4, Q + P)."""
    symbols = torch.randint(1, V, (4, Q + P), generator=torch.Generator().manual_seed(1))
    for row, question, passage in zip(symbols, QUESTIONS, PASSAGES, strict=True):
        row[question:Q] = 0
        row[Q + passage :] = 0
    return symbols.int()


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def outputs(model: AttentiveReader, part: str, symbols: list[int]) -> list[list[float]]:
    """y(t) of one sequence without padding; the cells have tests of their own."""
    y, _ = getattr(model, part)(model.embedding(torch.tensor([symbols])))
    return y[0].tolist()


def answer(model: AttentiveReader, question: list[int], passage: list[int]) -> tuple[list[float], list[float]]:
    """Logits and attention of one case (Hermann et al. 2015, section 3.2), every sum written out."""
    y_q, y_d = outputs(model, "question", question), outputs(model, "passage", passage)
    H = len(y_q[0]) // 2 if model.settings.bidirectional else len(y_q[0])
    u = y_q[-1][:H] + y_q[0][H:]
    W = {name: getattr(model, name).weight.tolist() for name in ("W_ym", "W_um", "w_ms", "W_rg", "W_ug", "W")}
    scores = []
    for y in y_d:
        m = [math.tanh(dot(W["W_ym"][k], y) + dot(W["W_um"][k], u)) for k in range(len(u))]
        scores.append(math.exp(dot(W["w_ms"][0], m)))
    s = [score / math.fsum(scores) for score in scores]
    r = [math.fsum(s[t] * y_d[t][k] for t in range(len(s))) for k in range(len(u))]
    g = [math.tanh(dot(W["W_rg"][k], r) + dot(W["W_ug"][k], u)) for k in range(len(u))]
    return [dot(row, g) for row in W["W"]], s


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("norm", ["none", "ln", "wn"])
def test_logits_and_attention_are_those_of_the_equations(norm, bidirectional):
    model, inputs = network(norm, bidirectional).eval(), questions()
    logits, attention = model.read(inputs)
    assert attention.shape == (4, max(PASSAGES)) and torch.equal(model(inputs), logits)
    for n, (question, passage) in enumerate(zip(QUESTIONS, PASSAGES, strict=True)):
        expected, s = answer(model, inputs[n, :question].tolist(), inputs[n, Q : Q + passage].tolist())
        torch.testing.assert_close(logits[n], torch.tensor(expected).double())
        torch.testing.assert_close(attention[n, :passage], torch.tensor(s).double())
        assert not attention[n, passage:].any(), "attention to padding"


@pytest.mark.parametrize("norm", ["none", "ln"])
def test_gradients_are_the_slopes_of_the_equations(norm):
    """d/d theta of the cross entropy of the slow reference, by central differences, at entries of every parameter."""
    model, inputs, target = network(norm).eval(), questions(), 1

    def loss(n: int) -> float:
        logits, _ = answer(model, inputs[n, : QUESTIONS[n]].tolist(), inputs[n, Q : Q + PASSAGES[n]].tolist())
        return math.log(math.fsum(map(math.exp, logits))) - logits[target]

    targets = torch.full((4,), target)
    torch.nn.functional.cross_entropy(model(inputs), targets, reduction="sum").backward()
    for name, parameter in model.named_parameters():
        flat, at = parameter.data.view(-1), int(parameter.grad.abs().argmax())
        slope, before = 0.0, flat[at].item()
        for sign in (1, -1):
            flat[at] = before + sign * 1e-5
            slope += sign * sum(map(loss, range(4))) / 2e-5
        flat[at] = before
        assert parameter.grad.view(-1)[at].item() == pytest.approx(slope, rel=1e-5), name


@pytest.mark.parametrize("norm", PER_CASE)
def test_a_batch_is_its_questions_one_by_one_whatever_the_padding(norm):
    model, inputs = network(norm), questions()

    def gradients(*batches: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        logits = torch.cat([model(batch) for batch in batches])
        targets = torch.arange(4) % CANDIDATES
        loss = torch.nn.functional.cross_entropy(logits, targets)
        return logits, list(torch.autograd.grad(loss, list(model.parameters())))

    together, one_by_one = gradients(inputs), gradients(*inputs.split(1))
    torch.testing.assert_close(one_by_one, together)
    wider = torch.cat([inputs, torch.zeros(4, 5, dtype=inputs.dtype)], 1)
    torch.testing.assert_close(gradients(wider), together)


def test_batch_statistics_are_over_real_steps_alone():
    """Step t of the passage has the cases whose passage is that long; a wider padding changes nothing."""
    model, inputs = network("bn").train(), questions()
    model(inputs)
    norm = model.passage.norm_ih_l0
    x = model.embedding(inputs[:, Q:]) @ model.passage.weight_ih_l0.T
    running = [[n for n, length in enumerate(PASSAGES) if length > t] for t in range(max(PASSAGES))]
    batches = [cases for cases in running if len(cases) > 1]  # a step that one case is left at moves nothing
    assert isinstance(norm, BatchNorm) and len(norm.running_mean) == len(batches) < max(PASSAGES)
    for t, cases in enumerate(batches):
        torch.testing.assert_close(norm.running_mean[t], norm.momentum * x[cases, t].mean(0))
    again = network("bn").train()
    wider = torch.cat([inputs, torch.zeros(4, 5, dtype=inputs.dtype)], 1)
    torch.testing.assert_close(again(wider), network("bn").train()(inputs))


def test_the_normaliser_stands_in_the_lstms_alone():
    model = network("ln")
    inside = {id(module) for lstm in (model.passage, model.question) for module in lstm.modules()}
    normalisers = [module for module in model.modules() if type(module) is NORMS["ln"].cls]
    assert len(normalisers) == 2 * 2 * 3 and all(id(module) in inside for module in normalisers)


@pytest.mark.parametrize("norm", ["none", "bn", *PER_CASE[1:]])
def test_every_parameter_has_a_gradient(norm):
    model = network(norm)
    model(questions().repeat(2, 1)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_dropout_is_of_training_alone():
    model, inputs = network(dropout=0.5), questions()
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))
