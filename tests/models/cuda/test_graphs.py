"""The pool of recorded sequences."""

import dataclasses
import gc

import pytest
import torch

from models.recurrent import cuda
from models.recurrent.spec import GATES
from tests.helpers.cuda import (
    QUIET_INTERPRETER,
    assert_same,
    check,
    gradients,
    leaves,
    make_inputs,
    make_spec,
    reference,
)

pytestmark = QUIET_INTERPRETER


def idle(pool) -> int:
    gc.collect()
    return sum(map(len, pool.idle.values()))


def test_a_key_is_recorded_at_its_second_use_and_no_more_than_the_bound():
    pool = cuda.Pool(lambda key: f"{key}{pool.made}", bound=2)
    assert pool.borrow("a") is None
    first, second = pool.borrow("a"), pool.borrow("a")
    assert (first.recorded, second.recorded) == ("a1", "a2")
    assert pool.borrow("a") is None
    assert pool.borrow("b") is None
    assert pool.borrow("b") is None


def test_a_record_comes_back_once_and_is_lent_again():
    pool = cuda.Pool(lambda key: object(), bound=9)
    pool.borrow("a")
    loan = pool.borrow("a")
    recorded = loan.recorded
    loan.give_back()
    loan.give_back()
    del loan
    again, other = pool.borrow("a"), pool.borrow("a")
    assert again.recorded is recorded
    assert other.recorded is not recorded
    del again
    assert pool.borrow("a").recorded is recorded
    assert pool.made == 2


def test_after_a_failed_recording_steps_run_one_by_one(monkeypatch):
    def record(plan, stream):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    pool = cuda.Pool(record, bound=3)
    monkeypatch.setattr(cuda, "POOL", pool)
    monkeypatch.setattr(cuda, "_stream", lambda device: 0)
    spec = make_spec("rnn", "one_span")
    inputs = make_inputs(spec, T=1)
    check(spec, inputs)
    with pytest.warns(RuntimeWarning, match="step by step.*: operation not permitted when stream is capturing$"):
        check(spec, inputs)
    check(spec, inputs)
    assert pool.made == 1


@pytest.mark.parametrize(("cell", "kind"), [("rnn", "frozen"), ("lstm", "batch"), ("gru", "one_span")])
def test_recorded_sequences_give_the_same_and_read_the_present_weights(pool, cell, kind):
    spec = make_spec(cell, kind)
    inputs = make_inputs(spec, T=2)
    for use in range(3):
        with torch.no_grad():
            for value in leaves(inputs).values():
                value.add_(0.1 * use)
        check(spec, inputs)
        assert (pool.made, idle(pool)) == (min(use, 1), min(use, 1))


def test_two_sequences_in_flight_share_no_buffer(pool):
    """Three forward passes before the first backward pass: one runs its steps, two are recorded, weights are shared."""
    spec = make_spec("gru", "one_span")
    inputs = [make_inputs(spec, T=2) for _ in range(4)]
    for other in inputs[1:]:
        other.x = (other.x * 2).detach().requires_grad_()
        other.W_hh = inputs[0].W_hh
    outputs = [cuda.sequence(spec, i) for i in inputs]
    assert (pool.made, idle(pool)) == (2, 0)
    for i, found in reversed(list(zip(inputs, outputs, strict=True))):
        expected = reference(spec, i)
        assert_same(found, expected)
        assert_same(gradients(found, i), gradients(expected, i))
    assert idle(pool) == 2


def test_a_retained_graph_keeps_its_record(pool):
    spec = make_spec("gru", "batch")
    inputs = make_inputs(spec, T=2)
    for use in range(3):  # steps, recorded, lent again
        outputs = cuda.sequence(spec, inputs)
        first = gradients(outputs, inputs, retain_graph=True)
        assert pool.made - idle(pool) == (use > 0)
        between = cuda.sequence(spec, make_inputs(spec, T=2))  # would take the record if it were idle
        second = gradients(outputs, inputs)
        assert_same(second, first, rtol=0, atol=0)
        assert_same(first, gradients(reference(spec, inputs), inputs))
        with pytest.raises(RuntimeError, match="second time"):
            gradients(outputs, inputs)
        del between
        assert idle(pool) == pool.made == min(use + 1, 2)


def test_a_record_comes_back_with_its_node(pool):
    """Also when no backward pass was run, or none reached it."""
    spec = make_spec("rnn", "one_span", joined=True)
    inputs = make_inputs(spec, T=1)
    cuda.sequence(spec, inputs)
    outputs = cuda.sequence(spec, inputs)
    torch.autograd.grad((outputs[0] * inputs.x.sum()).sum() * 0 + inputs.x.sum(), [inputs.x], retain_graph=True)
    assert (pool.made, idle(pool)) == (1, 0)
    del outputs
    assert idle(pool) == 1


@pytest.mark.parametrize("kind", ["one_span", "batch"])
@pytest.mark.parametrize("cell", GATES)
def test_without_gradients_the_numbers_are_the_same_and_nothing_is_kept(pool, cell, kind):
    spec = make_spec(cell, kind, reverse=True)
    inputs = make_inputs(spec, T=3)
    expected = cuda.sequence(spec, inputs)
    plain = dataclasses.replace(inputs, **{name: value.detach() for name, value in leaves(inputs).items()})
    with torch.inference_mode():
        found = [cuda.sequence(spec, inputs) for _ in range(2)]
    with torch.no_grad():
        found.append(cuda.sequence(spec, inputs))
    found.append(cuda.sequence(spec, plain))
    for outputs in found:
        assert_same(outputs, expected, rtol=0, atol=0)
        assert not outputs[0].requires_grad
    assert (pool.made, idle(pool)) == (1, 1)
    (record,) = next(filter(None, pool.idle.values()))
    assert len(record.forward.R) == 1
    assert len(record.forward.c) == (2 if cell == "lstm" else 0)


@pytest.mark.parametrize("hooks", ["checkpoint", "offload"])
def test_hooks_on_saved_tensors_never_see_a_record(pool, hooks):
    """Their tensors stand in for those of another forward pass, whose record may long be someone else's."""
    spec = make_spec("gru", "one_span")
    inputs = make_inputs(spec, T=1)
    expected = gradients(reference(spec, inputs), inputs)
    for _ in range(3):
        if hooks == "checkpoint":
            outputs = torch.utils.checkpoint.checkpoint(lambda: cuda.sequence(spec, inputs)[:3], use_reentrant=False)
        else:
            with torch.autograd.graph.saved_tensors_hooks(torch.clone, torch.clone):
                outputs = cuda.sequence(spec, inputs)
        assert_same(gradients(outputs, inputs), expected)
    assert pool.made == 0


def test_each_block_of_cases_sums_for_itself(pool):
    """On a GPU the blocks run at once."""
    spec = make_spec("rnn", "one_span", H=33)
    inputs = make_inputs(spec, T=1, H=33)
    cuda.sequence(spec, inputs)
    outputs = cuda.sequence(spec, inputs)
    gradients(outputs, inputs, retain_graph=True)
    sums = outputs[0].grad_fn.loan.recorded.backward.sums
    assert len(sums) == 2
    assert (sums != 0).any(1).all()


def test_a_record_lent_again_too_early_is_noticed(pool):
    spec = make_spec("rnn", "none")
    inputs = make_inputs(spec, T=1)
    cuda.sequence(spec, inputs)
    outputs = cuda.sequence(spec, inputs)
    outputs[0].grad_fn.loan.give_back()
    cuda.sequence(spec, inputs)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(outputs, inputs)
