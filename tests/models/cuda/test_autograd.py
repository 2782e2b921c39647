"""The sequence for GPUs as an autograd function."""

import dataclasses
import functools

import pytest
import torch

from models.recurrent import LSTM, cuda
from models.recurrent.loop import loop
from models.recurrent.spec import Statistics
from tests.helpers.cuda import (
    CLOSE,
    DEVICE,
    QUIET_INTERPRETER,
    ROLES,
    assert_same,
    gradients,
    leaves,
    loss,
    make_inputs,
    make_spec,
    reference,
)

pytestmark = QUIET_INTERPRETER


def test_only_what_is_needed_gets_a_gradient():
    spec = make_spec("gru", "one_span")
    inputs = make_inputs(spec, T=2)
    expected = gradients(reference(spec, inputs), inputs)
    wanted = ("W_hh", "b_hh", "g_ih")
    for name, value in leaves(inputs).items():
        value.requires_grad_(name in wanted)
    loss(*cuda.sequence(spec, inputs)[:3]).backward()
    assert {name for name, value in leaves(inputs).items() if value.grad is not None} == set(wanted)
    for name in wanted:
        torch.testing.assert_close(getattr(inputs, name).grad, expected[name], **CLOSE)


@pytest.mark.parametrize("output", [0, 1, 2])
def test_each_output_alone_has_a_gradient(output):
    spec = make_spec("lstm", "one_span", joined=True)
    inputs = make_inputs(spec, T=2)
    names, values = zip(*leaves(inputs).items(), strict=True)
    found, expected = (
        torch.autograd.grad(run(spec, inputs)[output].square().sum(), values, allow_unused=True, materialize_grads=True)
        for run in (cuda.sequence, reference)
    )
    assert_same(dict(zip(names, found, strict=True)), dict(zip(names, expected, strict=True)))


def test_batch_statistics_have_no_gradient():
    spec = make_spec("lstm", "batch")
    *_, statistics = cuda.sequence(spec, make_inputs(spec, T=2))
    assert statistics.keys() == set(ROLES)
    assert not any(value.requires_grad for pair in statistics.values() for value in pair)


def test_gradients_of_gradients_are_those_of_the_equations():
    spec = make_spec("lstm", "one_span")
    inputs = make_inputs(spec, T=2)
    inputs.equations = functools.partial(loop, LSTM.step, LSTM._fold_biases)
    found, expected = (
        gradients([*gradients(run(spec, inputs), inputs, create_graph=True).values()], inputs)
        for run in (cuda.sequence, reference)
    )
    assert_same(found, expected)


def test_outputs_may_be_changed_in_place():
    spec = make_spec("gru", "one_span")
    inputs = make_inputs(spec, T=2)
    outputs = []
    for run in (cuda.sequence, reference):
        y, h_n, c_n, _ = run(spec, inputs)
        outputs.append((y.mul_(2), h_n.add_(1), c_n))
    found, expected = (gradients(output, inputs) for output in outputs)
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_cell": Statistics("frozen")}, "one kind, got case and frozen"),
        ({"x": torch.zeros(4, 3, 4)}, "all float32 or all float64"),
        ({"x": torch.zeros(0, 3, 4, dtype=torch.float64)}, "at least one step"),
    ],
)
def test_refusals(change, message):
    spec = make_spec("lstm", "one_span")
    inputs = make_inputs(spec)
    for name, value in change.items():
        if name == "x":
            inputs.x = value.to(DEVICE)
        else:
            spec = dataclasses.replace(spec, **{name: value})
    with pytest.raises(ValueError, match=message):
        cuda.sequence(spec, inputs)
