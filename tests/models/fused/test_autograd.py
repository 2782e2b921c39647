"""The fused sequence as an autograd function."""

import gc

import pytest
import torch

from models.recurrent import CELLS, Recurrent, cpu, layout, pool
from tests.helpers.fused import PLACES, assert_close, call, cotangents, gradients, make, noise, run, states_of, twin


def assert_all_equal(given, expected):
    for a, b in zip(given, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("norm, placement", [("ln", "paper"), ("ln", "input_only"), ("bn", "paper"), ("none", "paper")])
@pytest.mark.parametrize("cell", CELLS)
def test_a_retained_graph_gives_the_same_again(cell, norm, placement):
    """Backward overwrites what forward kept. Running statistics move by forward alone."""
    layer, x = make(cell, 18, norm, placement), noise(4, 3, 5)
    outputs = call(layer, x)
    statistics = [buffer.clone() for buffer in layer.buffers()]
    first = [g.clone() for g in gradients(layer, outputs, retain_graph=True)]
    with torch.no_grad():  # takes and gives back memory in between
        call(layer.eval(), noise(4, 3, 5, seed=1))
    assert_all_equal(gradients(layer, outputs, retain_graph=True), first)
    assert_all_equal(gradients(layer, outputs), first)
    assert_all_equal(layer.buffers(), statistics)
    with pytest.raises(RuntimeError, match="second time"):
        gradients(layer, outputs)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("cell", CELLS)
def test_final_states_are_detached_in_place(cell, backend, layers):
    """As in truncated backpropagation through time."""
    layer = make(cell, 18, "ln", num_layers=layers, backend=backend)
    for gradients_wanted in (True, False):
        with torch.set_grad_enabled(gradients_wanted):
            _, *states = call(layer, noise(4, 3, 5))
        for state in states:
            assert not state.detach_().requires_grad


def test_two_sequences_in_flight(layer):
    inputs = [noise(4, 3, 5, seed=seed) for seed in (1, 2)]
    expected = [gradients(layer, call(layer, x)) for x in inputs]
    outputs = [call(layer, x) for x in inputs]
    copies = [y.detach().clone() for y, *_ in outputs]
    for k in (0, 1):
        assert_all_equal(gradients(layer, outputs[k]), expected[k])
    for (y, *_), held in zip(outputs, copies, strict=True):
        assert torch.equal(y, held), "an output was written over"


def test_gradients_stay_while_others_are_taken(layer):
    """What the optimiser holds is not the scratch of the next step."""
    layer(noise(4, 3, 5))[0].sum().backward()
    held = [p.grad.clone() for p in layer.parameters()]
    for seed in range(4):
        run(layer, noise(4, 3, 5, seed=seed), states_of(layer, 3))
    assert_all_equal([p.grad for p in layer.parameters()], held)


@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
@pytest.mark.parametrize("cell, placement", PLACES)
def test_without_gradients_the_same_values(cell, placement, norm):
    layer = make(cell, 18, norm, placement, bidirectional=True, num_layers=2)
    x, states = noise(5, 4, 5), states_of(layer, 4)
    expected = call(layer, x, states)
    with torch.no_grad():
        assert_all_equal(call(layer, x, states), expected)
    with torch.inference_mode():
        assert_all_equal(call(twin(layer, "fused"), x, states), expected)


@pytest.mark.parametrize("norm", ["none", "ln"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_without_gradients_less_is_stored(cell, norm, monkeypatch):
    """The outputs, the input term of a few steps, one step of the rest; with gradients all steps of everything."""
    taken = []
    monkeypatch.setattr(cpu, "take", lambda size, dtype: taken.append(size) or pool.take(size, dtype))
    T, N, H = 50, 8, 32
    layer, x = make(cell, H, norm), noise(T, N, 5)
    layer(x)
    kept = sum(taken)
    taken.clear()
    with torch.no_grad():
        layer(x)
    outputs, input_term, weights = T * N * H, layout.TOGETHER * layer.gates * H, layer.gates * H * (H + 5)
    assert outputs <= sum(taken) < 1.2 * (outputs + input_term + weights)
    assert kept >= outputs * (1 + layer.gates) + weights


@pytest.mark.parametrize("frozen", ["weight_ih", "weight_hh", "bias", "norm", "weight", ""], ids=lambda f: f or "all")
def test_gradients_only_where_needed(layer, frozen):
    x = noise(4, 3, 5)
    expected = dict(zip(dict(layer.named_parameters()), gradients(layer, call(layer, x)), strict=True))
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    y, *_ = outputs = call(layer, x)
    assert y.requires_grad == bool(frozen)
    if frozen:
        torch.autograd.backward(outputs, cotangents(outputs))
    for name, parameter in layer.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen), name
        assert parameter.grad is None or torch.equal(parameter.grad, expected[name]), name
    leaf = x.clone().requires_grad_()  # nothing but the input wants one
    alone = [p.requires_grad_(False) for p in layer.parameters()] and call(layer, leaf)
    torch.autograd.backward(alone, cotangents(alone))
    assert_close(
        {"x": leaf.grad}, {"x": run(twin(layer, "reference").requires_grad_(), x, zeros(layer, 3))["d x"]}, 1e-11
    )


def zeros(layer: Recurrent, N: int) -> list[torch.Tensor]:
    return [torch.zeros_like(state) for state in states_of(layer, N)]


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both_ways"])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["y", "h_n", "c_n"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_one_output_alone(cell, which, bidirectional):
    if which == 2 and cell != "lstm":
        which = 1
    fused = make(cell, 18, "ln", bidirectional=bidirectional)
    x, found = noise(4, 3, 5), []
    for layer in (fused, twin(fused, "reference")):
        states = [state.requires_grad_() for state in states_of(layer, 3)]
        out = call(layer, x, states)[which]
        leaves = [*states, *layer.parameters()]
        found.append(torch.autograd.grad(out, leaves, cotangents([out]), allow_unused=True, materialize_grads=True))
    assert_close(*(dict(enumerate(gradients)) for gradients in found), 1e-11)


def test_strides_of_any_kind(layer):
    """Gradients that are expanded or transposed, inputs and states that are views."""
    other = twin(layer, "reference")
    wide = noise(3, 4, 10)
    x = wide.transpose(0, 1)[:, :, ::2]
    states = [noise(1, 18, 3, seed=k).transpose(1, 2) for k in range(layer.num_states)]
    for loss in (lambda y: y.sum(), lambda y: (y.transpose(0, 1) * noise(3, 4, 18)).sum(), lambda y: y[::2, 1].sum()):
        found = []
        for module in (layer, other):
            leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
            assert not leaf.is_contiguous() or leaf.stride() != x.contiguous().stride()
            y, *_ = call(module, leaf, states)
            found.append(torch.autograd.grad(loss(y), [leaf, *module.parameters()], allow_unused=True))
        assert_close(*(dict(enumerate(gradients)) for gradients in found), 1e-11)
    weights = noise(5, 4 * 18)  # and weights that are views, as some parametrisations give
    names = dict(layer.named_parameters()) | {"weight_ih_l0": weights[:, : len(layer.weight_ih_l0)].t()}
    (y, _), (expected, _) = (torch.func.functional_call(module, names, (x,)) for module in (layer, other))
    torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)


CHANGES = {
    "y": lambda y, final: y.mul_(3),
    "part_of_y": lambda y, final: y[1].zero_(),
    "detached": lambda y, final: y.detach().mul_(3),
    "no_grad": lambda y, final: torch.no_grad()(y.zero_)(),
    "final": lambda y, final: final.mul_(3),
    "detached_final": lambda y, final: final.detach().mul_(3),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_outputs_changed_in_place_never_give_wrong_gradients(layer, change):
    """Torch's error, or the gradients of what was computed."""
    x, found = noise(4, 3, 5), []
    for module in (twin(layer, "reference"), layer):
        try:
            outputs = call(module, x)
            change(outputs[0], outputs[1])
            found.append(gradients(module, outputs))
        except RuntimeError as error:
            assert module is layer and ("inplace" in str(error) or "in-place" in str(error)), error
            return
    assert_close(*(dict(enumerate(g)) for g in reversed(found)), 1e-11)


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "x", "h0"])
def test_inputs_changed_in_place_before_the_backward_pass_are_noticed(layer, name):
    x, states = noise(4, 3, 5), [state.clone() for state in states_of(layer, 3)]
    outputs = call(layer, x, states)
    with torch.no_grad():
        {"x": x, "h0": states[0]}.get(name, dict(layer.named_parameters()).get(name)).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(layer, outputs)


@pytest.mark.parametrize("cell", CELLS)
def test_running_statistics_that_move_before_the_backward_pass(cell):
    """Evaluation, then a training pass, then the backward pass of the first: an error or the right gradients."""
    layer = make(cell, 18, "bn")
    for seed in range(3):
        layer(noise(4, 6, 5, seed=seed))
    layer.eval()
    x = noise(3, 6, 5, seed=9)
    expected = gradients(layer, call(layer, x))
    outputs = call(layer, x)
    layer.train()(10 * noise(4, 6, 5, seed=10))
    try:
        found = gradients(layer, outputs)
    except RuntimeError as error:
        assert "inplace" in str(error)
    else:
        assert_all_equal(found, expected)


def test_saved_tensors_may_be_moved_and_checkpointed(layer):
    """torch.autograd.graph's hooks, as for offloading, see copies that die; and a checkpoint runs forward twice."""
    x = noise(4, 3, 5)
    expected = gradients(layer, call(layer, x))
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: t.detach().numpy().copy(), lambda a: torch.from_numpy(a.copy())
    ):
        outputs = call(layer, x)
    gc.collect()
    run(layer, noise(4, 3, 5, seed=7), states_of(layer, 3))
    assert_all_equal(gradients(layer, outputs), expected)
    outputs = torch.utils.checkpoint.checkpoint(lambda x: call(layer, x), x, use_reentrant=False)
    assert_all_equal(gradients(layer, outputs), expected)
