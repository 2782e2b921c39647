"""Which backend runs, and why another cannot."""

import pytest
import torch
from torch import nn

from models.errors import ModelError
from models.norms import LayerNorm, RMSNorm
from models.recurrent import CELLS
from tests.helpers.fused import (
    assert_close,
    assert_falls_back,
    call,
    finished,
    make,
    noise,
    python,
    run,
    states_of,
    twin,
)


@pytest.mark.parametrize("cell", CELLS)
def test_auto_runs_the_kernels_where_it_can(cell, fused_calls):
    for norm in ("none", "wn", "ln", "gn", "rms", "bn"):
        for dtype in (torch.float32, torch.float64):
            make(cell, 8, norm, backend="auto", dtype=dtype)(noise(2, 3, 5, dtype=dtype))
    assert len(fused_calls) == 12
    make(cell, 8, backend="reference")(noise(2, 3, 5))
    assert len(fused_calls) == 12


HOOKS = {
    "forward": lambda module, seen: module.register_forward_hook(lambda *_: seen.append(1)),
    "forward_pre": lambda module, seen: module.register_forward_pre_hook(lambda *_: seen.append(1)),
    "backward": lambda module, seen: module.register_full_backward_hook(lambda *_: seen.append(1)),
    "backward_pre": lambda module, seen: module.register_full_backward_pre_hook(lambda *_: seen.append(1)),
    "every_module": lambda module, seen: nn.modules.module.register_module_forward_hook(lambda *_: seen.append(1)),
}


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
@pytest.mark.parametrize("place", ["norm_hh_l0", "norm_ih_l0.norms.1"])
def test_a_hook_on_a_normaliser_is_called(place, hook, fused_calls):
    seen, layer = [], make("gru", 8, "ln", backend="auto")
    handle = hook(layer.get_submodule(place), seen)
    try:
        layer(noise(3, 2, 5).requires_grad_())[0].sum().backward()
        assert seen and not fused_calls
        layer.backend = "fused"
        with pytest.raises(ModelError, match="hook") as caught:
            layer(noise(3, 2, 5))
        assert "\n" not in str(caught.value)
    finally:
        handle.remove()
    layer(noise(3, 2, 5))
    assert len(fused_calls) == 1, "without the hook the kernels run again"


def test_a_hook_sees_the_summed_inputs():
    seen, layer = [], make("lstm", 8, backend="auto")
    layer.norm_hh_l0.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x, states = noise(3, 2, 5), states_of(layer, 2)
    y = call(layer, x, states)[0]
    h_prev = torch.cat([states[0], y[:-1]])
    torch.testing.assert_close(torch.stack(seen), h_prev @ layer.weight_hh_l0.T, rtol=1e-10, atol=1e-10)


class Halved(LayerNorm):
    def forward(self, x, t=0):
        return super().forward(x, t) / 2


@pytest.mark.parametrize("place", ["norm_ih_l0", "norm_hh_l0", "norm_cell_l0"])
def test_an_unknown_normaliser_runs_by_its_own_forward(place, fused_calls):
    layer = make("lstm", 8, "ln")
    setattr(layer, place, Halved(8 if place == "norm_cell_l0" else 32).double())
    assert_falls_back(layer, noise(3, 2, 5), fused_calls, "Halved")
    gru = make("gru", 8, "ln")
    gru.norm_hh_l0.norms[1] = Halved(8, bias=False).double()
    assert_falls_back(gru, noise(3, 2, 5), fused_calls)


REPLACED = {
    "with_a_shift": lambda layer: setattr(layer, "norm_ih_l0", LayerNorm(32)),
    "another_kind": lambda layer: setattr(layer, "norm_hh_l0", RMSNorm(32, bias=False)),
    "other_eps": lambda layer: setattr(layer.norm_hh_l0, "eps", 0.5),
    "one_gate_of_another_kind": lambda layer: layer.norm_ih_l0.norms.__setitem__(1, RMSNorm(8, bias=False)),
    "one_gate_of_other_eps": lambda layer: setattr(layer.norm_ih_l0.norms[2], "eps", 0.5),
    "one_gate_with_a_shift": lambda layer: layer.norm_ih_l0.norms.__setitem__(1, LayerNorm(8)),
}


@pytest.mark.parametrize("name, change", REPLACED.items(), ids=REPLACED)
def test_a_normaliser_put_in_by_hand_is_obeyed(name, change):
    """auto gives what the modules say, whether or not a kernel can."""
    layer = make("lstm", 8, "ln", "per_gate" if name.startswith("one_gate") else "paper", backend="auto")
    change(layer)
    with torch.no_grad():
        for parameter_name, parameter in layer.named_parameters():
            if parameter_name.endswith(".bias"):
                parameter.fill_(0.7)
    layer.double()
    x, states = noise(3, 2, 5), states_of(layer, 2)
    assert_close(run(layer, x, states), run(twin(layer, "reference"), x, states), 1e-11)


def test_batch_norms_of_one_role_may_be_trained_apart():
    """One of a GRU's two normalisers in evaluation: as the reference does it."""
    layer = make("gru", 8, "bn", backend="auto")
    layer(noise(3, 4, 5))
    layer.norm_ih_l0.norms[1].eval()
    x, states = noise(3, 4, 5, seed=1), states_of(layer, 4)
    plain = twin(layer, "reference")
    assert_close(run(layer, x, states), run(plain, x, states), 1e-11)
    for ours, theirs in zip(layer.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_types_that_do_not_match_are_not_read_as_something_else(layer):
    """The kernels take addresses: a state or parameter of another type must be refused or converted."""
    plain = twin(layer, "reference")
    x, states = noise(3, 2, 5), states_of(layer, 2)
    short = [state.float() for state in states]
    with pytest.raises((RuntimeError, ValueError)):
        call(layer, x, short)
    for module in (layer, plain):
        for name in ("norm_sum_l0", "norm_ih_l0", "norm_hh_l0", "norm_cell_l0"):
            getattr(module, name).float()
    layer.backend = "auto"
    try:
        expected = call(plain, x, states)[0]
    except RuntimeError:
        with pytest.raises((RuntimeError, ValueError)):
            call(layer, x, states)
    else:
        torch.testing.assert_close(call(layer, x, states)[0], expected)


def test_an_empty_batch_falls_back(fused_calls):
    assert make("rnn", 8, backend="auto")(noise(3, 0, 5))[0].shape == (3, 0, 8)
    assert not fused_calls


TRANSFORMS = {
    "grad": lambda f, x: torch.func.grad(lambda z: f(z).square().sum())(x),
    "vmap": lambda f, x: torch.func.vmap(f)(torch.stack([x, 2 * x])),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x.cos(),))[1],
}


@pytest.mark.parametrize("frozen", [False, True], ids=["training", "frozen"])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_of_functions_run_the_equations(transform, frozen, fused_calls):
    layer = make("lstm", 8, "ln", backend="auto").requires_grad_(not frozen)
    x = noise(3, 2, 5)
    given, expected = (transform(lambda z, m=m: m(z)[0], x) for m in (layer, twin(layer, "reference")))
    torch.testing.assert_close(given, expected, rtol=1e-11, atol=1e-11)
    assert not fused_calls


def test_tensors_without_memory_reach_no_kernel():
    """As torch.export and planners of memory use them; in a process of its own, which a kernel would crash."""
    source = """
        import torch
        from torch._subclasses.fake_tensor import FakeTensorMode
        from models.recurrent import LSTM
        with FakeTensorMode():
            print(tuple(LSTM(5, 8, norm="ln")(torch.randn(3, 2, 5))[0].shape))
        print(tuple(LSTM(5, 8, norm="ln").to("meta")(torch.randn(3, 2, 5, device="meta"))[0].shape))
    """
    assert finished(python(source)).split("\n")[:2] == ["(3, 2, 8)"] * 2


def test_unknown_backend_is_refused():
    with pytest.raises(ModelError, match=r"backend=quick.*auto, fused, reference") as caught:
        CELLS["rnn"](3, 4, backend="quick")
    assert "\n" not in str(caught.value)
