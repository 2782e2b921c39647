"""Every normaliser against its equation (reference.py): values, gradients, statistics, and what is refused."""

from functools import partial

import pytest
import torch
from torch import nn

from models.create_norm import NormLayer, make_norm, norm_after, norm_entry
from models.errors import ModelError
from models.norms import NORMS, Normaliser
from tests.helpers import reference


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


EPS = 1e-2  # large, so that its place in the equation shows
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
SHAPES = {"units": (5, 6), "maps": (3, 6, 2, 3)}  # (N, C) and (N, C, H, W)
ON_ACTIVATIONS = ("bn", "ln", "gn", "in", "rms")

# name of the case: (norm, options, equation)
EQUATIONS = {
    "bn": ("bn", {}, reference.bn),
    "bn_unbiased": ("bn", {"unbiased": True}, partial(reference.bn, unbiased=True)),
    "ln": ("ln", {}, reference.ln),
    "gn2": ("gn", {"groups": 2}, partial(reference.gn, groups=2)),
    "gn3": ("gn", {"groups": 3}, partial(reference.gn, groups=3)),
    "in": ("in", {}, reference.instance_norm),
    "rms": ("rms", {}, reference.rms),
}


def values(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Random summed inputs whose channels and cases differ in mean and scale."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    per_channel = (1, -1, *[1] * (len(shape) - 2))
    return x * torch.linspace(0.5, 2, shape[1], dtype=x.dtype).view(per_channel) + torch.linspace(
        -1, 2, shape[1], dtype=x.dtype
    ).view(per_channel)


def normaliser(name: str, channels: int, options: dict) -> Normaliser:
    """In float64, with a random gain and shift so that none of them can hide."""
    norm = make_norm(name, channels, options).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.rand(channels, generator=generator, dtype=torch.float64) + 0.5)
    return norm


def small_options(name: str, **options) -> dict:
    """Options for six channels: a number of groups that divides them."""
    return {**({"groups": 3} if name == "gn" else {}), **options}


def assert_same_with_gradients(y, y_expected, leaves):
    """Equal values, and equal gradients of a random linear function of them."""
    torch.testing.assert_close(y, y_expected, **CLOSE)
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    given, expected = (torch.autograd.grad((out * direction).sum(), leaves) for out in (y, y_expected))
    for a, b in zip(given, expected, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


# --- equations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("case", EQUATIONS)
def test_values_and_gradients_in_training(case, shape):
    name, options, equation = EQUATIONS[case]
    x = values(shape).requires_grad_()
    norm = normaliser(name, shape[1], {**options, "eps": EPS})
    expected = equation(x, norm.weight, norm.bias, EPS)
    assert_same_with_gradients(norm(x), expected, [x, norm.weight, norm.bias])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("unbiased", [False, True], ids=["biased", "unbiased"])
def test_batch_norm_values_and_gradients_in_evaluation(unbiased, shape):
    norm = normaliser("bn", shape[1], {"eps": EPS, "unbiased": unbiased})
    norm.running_mean.copy_(torch.linspace(-1, 1, shape[1]))
    norm.running_var.copy_(torch.linspace(0.5, 3, shape[1]))
    norm.eval()
    x = values(shape).requires_grad_()
    expected = reference.bn_eval(x, norm.weight, norm.bias, EPS, norm.running_mean[0], norm.running_var[0])
    assert_same_with_gradients(norm(x), expected, [x, norm.weight, norm.bias])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("case", EQUATIONS)
def test_shift_can_be_left_out(case, shape):
    """A recurrent layer adds the biases itself: with bias=False there is no b, and the rest is unchanged."""
    name, options, equation = EQUATIONS[case]
    norm = make_norm(name, shape[1], {**options, "eps": EPS}, bias=False).double()
    assert norm.bias is None
    x = values(shape)
    expected = equation(x, norm.weight, torch.zeros(shape[1], dtype=x.dtype), EPS)
    torch.testing.assert_close(norm(x), expected, **CLOSE)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("case", ["bn", "bn_unbiased", "ln", "gn3", "rms"])
def test_gradients_are_the_derivatives_of_the_values(case, shape):
    """Against finite differences, so without any formula of ours."""
    name, options, _ = EQUATIONS[case]
    norm = normaliser(name, shape[1], options)

    def function(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(
        function, (values(shape).requires_grad_(), *(p.detach().requires_grad_() for p in norm.parameters()))
    )


@pytest.mark.parametrize("case", EQUATIONS)
def test_all_steps_at_once_equal_the_steps_one_by_one(case):
    name, options, _ = EQUATIONS[case]
    z = torch.stack([values((5, 6), seed) for seed in range(3)])
    together, apart = (normaliser(name, 6, options) for _ in range(2))
    expected = torch.stack([apart(z_t, t) for t, z_t in enumerate(z)])
    torch.testing.assert_close(together.over_time(z), expected, **CLOSE)


@pytest.mark.parametrize("norm", ["none", "wn"])
def test_none_and_weight_norm_leave_activations_alone(norm):
    x = values((5, 6))
    module = make_norm(norm, 6)
    assert torch.equal(module(x), x) and torch.equal(module.over_time(x[None]), x[None])
    assert not list(module.parameters())


# --- relations between normalisers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("groups, other", [(1, "ln"), (6, "in")], ids=["GN(1)=LN", "GN(C)=IN"])
def test_group_norm_contains_layer_norm_and_instance_norm(groups, other, shape):
    """Wu & He 2018, section 3: exactly equal, values and gradients."""
    outcomes = []
    for name, options in (("gn", {"groups": groups}), (other, {})):
        norm = normaliser(name, shape[1], options)
        x = values(shape).requires_grad_()
        y = norm(x)
        outcomes.append((y, *torch.autograd.grad(y.sin().sum(), [x, norm.weight, norm.bias])))
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


def test_instance_norm_of_single_values_is_its_shift():
    norm = normaliser("in", 6, {})
    torch.testing.assert_close(norm(values((5, 6))), norm.bias.expand(5, 6), **CLOSE)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("norm", ["ln", "gn", "in", "rms"])
def test_the_same_in_training_and_evaluation(norm, shape):
    module = normaliser(norm, shape[1], small_options(norm))
    x = values(shape)
    for _ in range(2):  # a second batch, were there statistics that move
        trained = module.train()(x)
    assert torch.equal(trained, module.eval()(x))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_batch_norm_differs_in_training_and_evaluation(shape):
    module = normaliser("bn", shape[1], {})
    x = values(shape)
    assert (module.train()(x) - module.eval()(x)).abs().max() > 0.1


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("norm", ["ln", "gn", "in", "rms"])
def test_batch_of_one_gives_what_the_case_gets_in_any_batch(norm, shape):
    module = normaliser(norm, shape[1], small_options(norm))
    x = values(shape)
    torch.testing.assert_close(torch.cat([module(case[None]) for case in x]), module(x), **CLOSE)


@pytest.mark.parametrize("norm", ["ln", "gn", "rms"])
def test_one_case_with_one_unit_per_group_is_possible(norm):
    """torch.nn.functional refuses it for group normalisation; the equation does not."""
    module = make_norm(norm, 3, {"groups": 3} if norm == "gn" else {})
    assert module(torch.ones(1, 3)).isfinite().all()


# --- batch normalisation's statistics ---------------------------------------------------------------------------------


@pytest.mark.parametrize("unbiased", [False, True], ids=["biased", "unbiased"])
@pytest.mark.parametrize("momentum", [0.1, 0.4])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_running_statistics_equal_torchs_and_are_used_in_evaluation(shape, momentum, unbiased):
    ours = make_norm("bn", shape[1], {"momentum": momentum, "unbiased": unbiased}).double()
    torchs = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](shape[1], momentum=momentum).double()
    mean, var = torch.zeros(shape[1], dtype=torch.float64), torch.ones(shape[1], dtype=torch.float64)
    for seed in range(4):
        x = values(shape, seed)
        y, y_torch = ours(x), torchs(x)
        mean, var = reference.bn_running(mean, var, x, momentum)
        assert unbiased or torch.allclose(y, y_torch, rtol=1e-12)
    assert len(ours.running_mean) == 1
    for ours_, torchs_, by_hand in (
        (ours.running_mean[0], torchs.running_mean, mean),
        (ours.running_var[0], torchs.running_var, var),
    ):
        torch.testing.assert_close(ours_, torchs_, **CLOSE)
        torch.testing.assert_close(ours_, by_hand, **CLOSE)
    ours.eval(), torchs.eval()
    x = values(shape, seed=9)
    torch.testing.assert_close(ours(x), torchs(x), **CLOSE)
    torch.testing.assert_close(ours.running_mean[0], torchs.running_mean, **CLOSE)  # evaluation moved nothing


def test_unbiased_variance_divides_by_one_less():
    """Two values 0 and 2: mean 1, variance 1 biased and 2 unbiased."""
    x = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    for unbiased, expected in ((False, 1.0), (True, 0.5**0.5)):
        y = make_norm("bn", 1, {"unbiased": unbiased, "eps": 0.0}).double()(x)
        torch.testing.assert_close(y, torch.tensor([[-expected], [expected]], dtype=torch.float64), **CLOSE)


@pytest.mark.parametrize("unbiased", [False, True], ids=["biased", "unbiased"])
@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1, 1)], ids=["units", "maps"])
def test_batch_norm_refuses_one_value_per_channel_in_training_only(shape, unbiased):
    norm = make_norm("bn", 4, {"unbiased": unbiased})
    with pytest.raises(ValueError, match="two values per channel"):
        norm(torch.ones(shape))
    assert torch.equal(norm.running_mean, torch.zeros(1, 4)), "the refused batch must leave no trace"
    assert norm.eval()(torch.ones(shape)).isfinite().all()
    assert norm.train()(torch.randn(1, 4, 2, 1)).isfinite().all()  # one case with two positions is enough


# --- weight normalisation ---------------------------------------------------------------------------------------------


def linear_and_input():
    return nn.Linear(5, 6).double(), values((7, 5))


def conv_and_input():
    return nn.Conv2d(3, 6, 3, stride=2, padding=1).double(), values((4, 3, 5, 4))


LAYERS = {"linear": linear_and_input, "conv": conv_and_input}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_weight_norm_leaves_the_function_unchanged_at_the_start(make):
    layer, x = make()
    before = layer(x)
    torch.testing.assert_close(norm_after(layer, "wn")(x), before, **CLOSE)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_weight_norm_values_and_gradients(make):
    layer, x = make()
    module = norm_after(layer, "wn")
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    with torch.no_grad():
        g.copy_(torch.linspace(0.5, 2, 6).view_as(g))
    x.requires_grad_()
    if isinstance(layer, nn.Conv2d):
        expected = nn.functional.conv2d(x, reference.wn_weight(v, g), layer.bias, layer.stride, layer.padding)
    else:
        expected = reference.summed_inputs(reference.wn_weight(v, g), x) + layer.bias
    assert_same_with_gradients(module(x), expected, [x, g, v, layer.bias])
    norms = torch.stack([w_i.square().sum().sqrt() for w_i in layer.weight])
    torch.testing.assert_close(norms, g.flatten(), **CLOSE)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_data_init_standardises_the_first_batch_and_only_that(make):
    layer, x = make()
    with torch.no_grad():
        layer.bias.copy_(torch.linspace(-1, 1, 6))
    plain = layer(x)
    module = norm_after(layer, "wn", {"data_init": True})
    torch.testing.assert_close(module.eval()(x), plain, **CLOSE)  # evaluation does not count as the first batch
    first = module.train()(x)
    axes = [axis for axis in range(first.dim()) if axis != 1]
    torch.testing.assert_close(first.mean(axes), torch.zeros(6, dtype=x.dtype), **CLOSE)
    torch.testing.assert_close(first.square().mean(axes), torch.ones(6, dtype=x.dtype), **CLOSE)
    after_first = {key: value.clone() for key, value in module.state_dict().items()}
    module(3 * x + 1)
    assert all(torch.equal(value, after_first[key]) for key, value in module.state_dict().items())
    torch.testing.assert_close(module(x), first, **CLOSE)  # g and b were set, not only the output
    assert module(3 * x + 1).mean(axes).abs().max() > 0.1


def test_data_init_is_not_repeated_after_loading_a_checkpoint():
    layer, x = linear_and_input()
    module = norm_after(layer, "wn", {"data_init": True})
    module(x)
    loaded = norm_after(nn.Linear(5, 6).double(), "wn", {"data_init": True})
    loaded.load_state_dict(module.state_dict())
    torch.testing.assert_close(loaded(2 * x), module(2 * x), **CLOSE)


def test_data_init_is_off_unless_asked():
    layer, x = linear_and_input()
    module = norm_after(layer, "wn")
    assert not module[1].waiting
    torch.testing.assert_close(module(x), layer(x), **CLOSE)


# --- attaching to a layer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("norm", NORMS)
def test_only_none_and_weight_norm_keep_the_layers_bias(norm, make):
    layer, x = make()
    module = norm_after(layer, norm, small_options(norm)).double()
    assert (layer.bias is not None) == (norm in ("none", "wn"))
    assert module(x).shape[1] == 6


@pytest.mark.parametrize("norm", ON_ACTIVATIONS)
def test_normaliser_follows_the_layer(norm):
    layer, x = conv_and_input()
    W = layer.weight
    module = norm_after(layer, norm, small_options(norm)).double()
    fresh = make_norm(norm, 6, small_options(norm)).double()
    torch.testing.assert_close(module(x), fresh(nn.functional.conv2d(x, W, None, 2, 1)), **CLOSE)


@pytest.mark.parametrize("norm", ON_ACTIVATIONS)
def test_gain_starts_at_one_or_as_asked_and_shift_at_zero(norm):
    module = make_norm(norm, 6, small_options(norm))
    assert torch.equal(module.weight, torch.ones(6)) and torch.equal(module.bias, torch.zeros(6))
    assert torch.equal(make_norm(norm, 6, small_options(norm, gain=0.3)).weight, torch.full((6,), 0.3))


# --- refusals ---------------------------------------------------------------------------------------------------------

REFUSED = {
    "unknown_norm": ("lm", {}, ["norm=lm", "allowed", "nearest: "]),
    "unknown_option": ("ln", {"groups": 2}, ["norm=ln", "groups", "eps"]),
    "option_of_none": ("none", {"eps": 0.1}, ["norm=none", "eps"]),
    "place_is_not_an_option": ("ln", {"shift": False}, ["shift"]),
    "text_for_number": ("ln", {"eps": "small"}, ["norm.eps=small", "float"]),
    "bool_for_number": ("gn", {"groups": True}, ["norm.groups=True", "int"]),
    "fraction_for_integer": ("gn", {"groups": 2.0}, ["norm.groups=2.0", "int"]),
    "number_for_bool": ("bn", {"unbiased": 1}, ["norm.unbiased=1", "bool"]),
    "groups_do_not_divide": ("gn", {"groups": 4}, ["norm.groups=4", "6 channels"]),
    "no_groups": ("gn", {"groups": 0}, ["norm.groups=0"]),
    "negative_groups": ("gn", {"groups": -2}, ["norm.groups=-2"]),
}


@pytest.mark.parametrize("norm, options, parts", REFUSED.values(), ids=REFUSED)
def test_impossible_normaliser_is_refused_in_one_line(norm, options, parts):
    with pytest.raises(ModelError) as caught:
        make_norm(norm, 6, options)
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message


def test_nearest_name_is_offered():
    with pytest.raises(ModelError, match="nearest: rms"):
        norm_entry("rmsnorm")


def test_none_as_an_option_means_the_default_and_whole_numbers_are_numbers():
    assert make_norm("gn", 16, {"groups": None}).groups == 8
    assert make_norm("bn", 6, {"momentum": 1}).momentum == 1


def test_all_seven_normalisers_are_there_and_only_weight_norm_acts_on_weights():
    assert {"none", "bn", "ln", "wn", "gn", "in", "rms"} <= set(NORMS)
    assert [name for name, row in NORMS.items() if row.on_weights] == ["wn"]


def test_print_tells_size_and_options():
    assert str(make_norm("ln", 6)) == "LayerNorm(6, eps=1e-05)"
    assert str(make_norm("gn", 6, {"groups": 3}, bias=False)) == "GroupNorm(6, groups=3, eps=1e-05, bias=False)"
    assert str(make_norm("bn", 6, {"unbiased": True})) == "BatchNorm(6, eps=1e-05, momentum=0.1, unbiased=True)"
    assert str(make_norm("bn", 6, {"steps": 9})).endswith(", steps=9)")
    assert str(make_norm("none", 6)) == "NoNorm(6)"


def test_one_factory_makes_every_normaliser_of_a_network():
    norm_layer = NormLayer("gn", {"groups": 2, "eps": None})
    assert norm_layer(6).groups == 2
    assert type(norm_layer.after(nn.Linear(3, 6))[1]).__name__ == "GroupNorm"
