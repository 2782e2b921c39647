"""A normaliser after every kind of layer, and by itself: over the right axis, against torch.nn's."""

import copy
import pickle

import pytest
import torch
from torch import nn

from models.create_norm import make_norm, norm_after
from models.errors import ModelError
from models.norms import NORMS, BatchNorm, LayerNorm, RMSNorm
from tests.helpers import reference
from tests.models.test_norms import CLOSE, small_options, values

C, T, N = 6, 6, 4  # as many steps as channels: the wrong axis would fit


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# layer with C channels, and the shape of its input
CONVOLUTIONS = {
    "Conv1d": (nn.Conv1d(3, C, 1), (N, 3, C)),
    "Conv2d": (nn.Conv2d(3, C, 1), (N, 3, C, 5)),
    "Conv3d": (nn.Conv3d(3, C, 1), (N, 3, C, 2, 3)),
    "ConvTranspose1d": (nn.ConvTranspose1d(3, C, 1), (N, 3, C)),
    "ConvTranspose2d": (nn.ConvTranspose2d(3, C, 1), (N, 3, C, 5)),
    "ConvTranspose3d": (nn.ConvTranspose3d(3, C, 1), (N, 3, C, 2, 3)),
}
BATCH_NORMS = {3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def torchs(norm: str, dims: int) -> nn.Module:
    """torch.nn's normaliser of feature maps."""
    if norm == "bn":
        return BATCH_NORMS[dims](C).double()
    return nn.GroupNorm({"ln": 1, "gn": 3, "in": C}[norm], C).double()


def plain_and_normalised(layer: nn.Module, norm: str) -> tuple[nn.Module, nn.Module]:
    """The layer without its bias, and the layer with a normaliser."""
    layer = copy.deepcopy(layer).double()
    plain = copy.deepcopy(layer)
    plain.register_parameter("bias", None)
    return plain, norm_after(layer, norm, small_options(norm))


# --- channels first ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["bn", "ln", "gn", "in"])
@pytest.mark.parametrize("layer, shape", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_after_a_convolution(layer, shape, norm):
    plain, normalised = plain_and_normalised(layer, norm)
    x = values(shape)
    torch.testing.assert_close(normalised(x), torchs(norm, len(shape))(plain(x)), **CLOSE)


@pytest.mark.parametrize("norm", ["ln", "gn", "in", "rms", "none", "wn"])
@pytest.mark.parametrize("layer, shape", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_one_case_without_a_batch_axis_is_a_batch_of_one(layer, shape, norm):
    """(C, H, W) with H = C, which could be (N, C, L)."""
    _, normalised = plain_and_normalised(layer, norm)
    case = values(shape)[0]
    torch.testing.assert_close(normalised(case), normalised(case[None])[0], **CLOSE)


@pytest.mark.parametrize("layer", [nn.LazyLinear(C), nn.LazyConv2d(C, 1), nn.LazyConvTranspose1d(C, 1)], ids=type)
def test_lazy_layers_are_normalised_and_weight_norm_says_that_it_needs_weights(layer):
    shape = (N, 3, C, 5) if isinstance(layer, nn.LazyConv2d) else (N, 3, C)
    y = norm_after(copy.deepcopy(layer), "ln")(torch.randn(shape))
    axes = -1 if isinstance(layer, nn.LazyLinear) else tuple(range(1, y.dim()))
    torch.testing.assert_close(y.mean(axes), torch.zeros_like(y.mean(axes)), rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match=r"norm=wn needs weights, which Lazy.* makes at its first batch"):
        norm_after(layer, "wn")


# --- channels last ----------------------------------------------------------------------------------------------------

LAST = {
    "ln": lambda: nn.LayerNorm(C),
    "rms": lambda: nn.RMSNorm(C, eps=1e-5),
    "bn": lambda: nn.BatchNorm1d(C),
    "gn": lambda: nn.GroupNorm(3, C),
}


@pytest.mark.parametrize("shape", [(N, 8), (N, T, 8), (2, N, T, 8)], ids=str)
@pytest.mark.parametrize("norm", LAST)
def test_after_a_linear_layer_every_position_is_a_case(norm, shape):
    plain, normalised = plain_and_normalised(nn.Linear(8, C), norm)
    x = values(shape)
    z = plain(x)
    expected = LAST[norm]().double()(z.reshape(-1, C)).view_as(z)
    torch.testing.assert_close(normalised(x), expected, **CLOSE)
    assert normalised.eval()(x[0]).shape == z[0].shape


def test_batch_statistics_after_a_linear_layer_are_over_cases_and_steps():
    plain, normalised = plain_and_normalised(nn.Linear(8, C), "bn")
    x = values((N, T, 8))
    normalised(x)
    expected = nn.BatchNorm1d(C).double()
    expected(plain(x).transpose(1, 2))
    torch.testing.assert_close(normalised[1].running_mean[0], expected.running_mean, **CLOSE)
    torch.testing.assert_close(normalised[1].running_var[0], expected.running_var, **CLOSE)
    torch.testing.assert_close(normalised.eval()(x), expected.eval()(plain(x).transpose(1, 2)).transpose(1, 2), **CLOSE)


def test_after_other_layers_with_channels_last():
    bilinear, embedding = nn.Bilinear(3, 5, C).double(), nn.Embedding(7, C).double()
    pair, tokens = (values((N, T, 3)), values((N, T, 5))), torch.arange(N * T).view(N, T) % 7
    expected = nn.functional.layer_norm(nn.functional.bilinear(*pair, bilinear.weight), (C,))
    torch.testing.assert_close(norm_after(bilinear, "ln")(*pair), expected, **CLOSE)
    expected = nn.functional.layer_norm(embedding.weight[tokens], (C,))
    torch.testing.assert_close(norm_after(embedding, "ln")(tokens), expected, **CLOSE)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.LSTM(3, C), nn.MultiheadAttention(C, 2)], ids=type)
def test_a_layer_whose_channels_are_not_known_is_refused(layer):
    with pytest.raises(ModelError, match=r"norm_after does not know where .* has its channels: it takes Linear"):
        norm_after(layer, "ln")


# --- by itself --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", LAST)
def test_by_itself_channels_are_first_or_last_as_asked(norm):
    x = values((N, T, C))
    last = make_norm(norm, C, small_options(norm), channels_last=True).double()
    torch.testing.assert_close(last(x), LAST[norm]().double()(x.reshape(-1, C)).view_as(x), **CLOSE)
    first = make_norm(norm, C, small_options(norm)).double()
    if norm != "rms":
        expected = nn.BatchNorm1d(C) if norm == "bn" else nn.GroupNorm({"ln": 1, "gn": 3}[norm], C)
        torch.testing.assert_close(first(x), expected.double()(x), **CLOSE)
    assert not torch.allclose(first(x), last(x))


@pytest.mark.parametrize("norm", ["bn", "ln", "gn", "in", "rms"])
@pytest.mark.parametrize("shape, last", [((N, 5, C), False), ((C,), False), ((N, C, 5), True), ((), True)], ids=str)
def test_channels_that_are_not_there_are_refused_in_one_line(norm, shape, last):
    module = make_norm(norm, C, small_options(norm), channels_last=last)
    with pytest.raises(ValueError, match=r"^expected \(.*channels are .*$"):
        module(torch.zeros(shape))


@pytest.mark.parametrize("cls", [LayerNorm, RMSNorm, BatchNorm])
def test_modules_take_device_dtype_and_layout(cls):
    module = cls(C, channels_last=True, device="meta", dtype=torch.float64)
    assert module.weight.is_meta and module.weight.dtype == torch.float64 and "channels_last=True" in str(module)
    module = nn.utils.skip_init(cls, C, channels_last=True)
    module.reset_parameters()
    assert torch.equal(module.weight, torch.ones(C)) and not module.bias.any()


@pytest.mark.parametrize("norm", NORMS)
def test_the_normaliser_stands_where_its_layer_stands(norm):
    layer = nn.Linear(8, C, device="meta", dtype=torch.bfloat16)
    tensors = norm_after(layer, norm, small_options(norm)).state_dict().values()
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.bfloat16}
    if norm in ("ln", "bn"):
        apart = norm_after(nn.Linear(8, C), norm, device="meta", dtype=torch.float64)[1]
        assert apart.weight.is_meta and apart.weight.dtype == torch.float64


# --- weight normalisation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer, shape", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_weight_norm_has_a_vector_for_each_output_unit(layer, shape):
    """Of a transposed convolution the output channels are the second axis of the weights."""
    layer = copy.deepcopy(layer).double()
    module = norm_after(layer, "wn")
    axis = 1 if "Transpose" in type(layer).__name__ else 0
    gain = layer.parametrizations.weight.original0
    assert gain.shape[axis] == gain.numel() == C
    v = layer.parametrizations.weight.original1.transpose(0, axis)
    with torch.no_grad():
        gain.mul_(torch.linspace(1, 2, C).view_as(gain))
    expected = reference.wn_weight(v.flatten(1), gain.flatten()[:, None]).view(v.shape).transpose(0, axis)
    torch.testing.assert_close(module[0].weight, expected, **CLOSE)


@pytest.mark.parametrize("layer, shape", [(nn.Linear(8, C), (N, T, 8)), *CONVOLUTIONS.values()])
def test_data_init_standardises_every_channel(layer, shape):
    layer = copy.deepcopy(layer).double()
    y = norm_after(layer, "wn", {"data_init": True})(values(shape))
    axes = [axis for axis in range(y.dim()) if axis != (y.dim() - 1 if isinstance(layer, nn.Linear) else 1)]
    torch.testing.assert_close(y.mean(axes), torch.zeros(C, dtype=y.dtype), **CLOSE)
    torch.testing.assert_close(y.var(axes, correction=0), torch.ones(C, dtype=y.dtype), **CLOSE)


@pytest.mark.parametrize(
    "layer, options, part",
    [
        (nn.Embedding(7, C), {}, "Embedding lacks"),
        (nn.ConvTranspose1d(4, C, 1, groups=2), {}, "ConvTranspose1d with groups lacks"),
        (nn.Linear(3, C, bias=False), {"data_init": True}, "bias=True"),
    ],
)
def test_weight_norm_refuses_a_layer_without_what_it_needs(layer, options, part):
    with pytest.raises(ModelError, match=part):
        norm_after(layer, "wn", options)


def test_a_plain_state_dict_goes_into_a_layer_under_weight_norm():
    theirs = nn.Conv2d(3, C, 2)
    ours = nn.Sequential(norm_after(nn.Conv2d(3, C, 2), "wn"))
    state = {f"0.0.{name}": value for name, value in theirs.state_dict().items()}
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert missing == ["0.1.waiting"] and not unexpected
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(ours(x), theirs(x))


# --- start again, copies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [nn.Linear(3, C), nn.Conv1d(3, C, 1), nn.ConvTranspose1d(3, C, 1)], ids=type)
@pytest.mark.parametrize("norm", NORMS)
def test_resetting_every_module_leaves_nothing_from_before(norm, layer):
    options = small_options(norm, **({"data_init": True} if norm == "wn" else {}))
    module = norm_after(copy.deepcopy(layer), norm, options)
    module(torch.randn(*((N, C, 3) if isinstance(layer, nn.Linear) else (N, 3, C))))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(5.0)
    torch.manual_seed(1)
    for part in module.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    torch.manual_seed(1)
    again = copy.deepcopy(layer)
    again.reset_parameters()
    torch.testing.assert_close(module[0].weight, again.weight)
    torch.testing.assert_close(dict(module.state_dict()), dict(norm_after(again, norm, options).state_dict()))


@pytest.mark.parametrize("norm", NORMS)
def test_a_pickled_copy_computes_the_same(norm):
    module = norm_after(nn.ConvTranspose1d(3, C, 2), norm, small_options(norm))
    other = pickle.loads(pickle.dumps(module))
    x = torch.randn(N, 3, 5)
    assert torch.equal(module(x), other(x)) and other[:1](x).shape == (N, C, 6)
