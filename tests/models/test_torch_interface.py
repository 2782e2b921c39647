"""What users of torch.nn's layers do with them beside calling them, for every normaliser."""

import copy
import inspect
import io
import pickle

import pytest
import torch
from torch import nn

from models.errors import ModelError
from models.recurrent import CELLS, GRU, LSTM, RNN
from tests.helpers.recurrent import CLOSE, OPTIONS, TORCH, D, H, N, T, make, noise

CELLS_AND_NORMS = [(cell, norm) for cell in CELLS for norm in OPTIONS]
cells_and_norms = pytest.mark.parametrize("cell, norm", CELLS_AND_NORMS)
PLAIN = ("none", "wn")  # with these a layer is torch.nn's function


def fresh(cell: str, norm: str = "none", **settings) -> nn.Module:
    torch.manual_seed(0)
    return CELLS[cell](D, H, 2, norm=norm, norm_options=OPTIONS[norm], **settings)


@pytest.mark.parametrize("cell", CELLS)
def test_every_argument_of_a_call_may_be_positional(cell):
    """torch.onnx.export(dynamo=False) passes all of them, defaults included, in their order."""
    layer, x = fresh(cell).double(), noise(T, N, D)
    _, *others = inspect.signature(layer.forward).parameters.values()
    y, final = layer(x, *(parameter.default for parameter in others))
    torch.testing.assert_close((y, final), layer(x), rtol=0, atol=0)


# --- constructor ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_arguments_come_in_torchs_order(cell):
    order = (D, H, 2, *(["relu"] if cell == "rnn" else []), False, True, 0.5, True, 0, "cpu", torch.float64)
    ours, theirs = CELLS[cell](*order), TORCH[cell](*order)
    for name in ("mode", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size"):
        assert getattr(ours, name) == getattr(theirs, name), name
    shapes = [[tuple(weight.shape) for weight in weights] for weights in theirs.all_weights]
    assert [[tuple(weight.shape) for weight in weights] for weights in ours.all_weights] == shapes
    assert ours.weight_ih_l0.dtype == torch.float64 and ours.flatten_parameters() is None


@cells_and_norms
def test_device_and_dtype_reach_every_tensor(cell, norm):
    layer = fresh(cell, norm, device="meta", dtype=torch.float64)
    tensors = [*layer.parameters(), *(buffer for buffer in layer.buffers() if buffer.is_floating_point())]
    assert {(tensor.device.type, tensor.dtype) for tensor in tensors} == {("meta", torch.float64)}


@pytest.mark.parametrize(
    "settings", [{"num_layers": 2, "bidirectional": True}, {"proj_size": 2}, {"dtype": torch.double}]
)
def test_the_same_seed_draws_torchs_weights(settings):
    layers = []
    for kind in (LSTM, nn.LSTM):
        torch.manual_seed(0)
        layers.append(dict(kind(D, H, **settings).named_parameters()))
    ours, theirs = layers
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "given, nearest", [("LN", "ln"), ("LayerNorm", "ln"), (None, "none"), ("RMSNorm", "rms"), ("BN", "bn")]
)
def test_another_spelling_of_a_norm_gets_its_name(given, nearest):
    with pytest.raises(ModelError, match=f"norm={given} is unknown; .*; nearest: {nearest}$"):
        LSTM(D, H, norm=given)


def test_dropout_without_a_layer_to_act_on_is_warned_of_where_the_layer_is_made():
    with pytest.warns(UserWarning, match="num_layers=1") as caught:
        LSTM(D, H, dropout=0.5)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("placement", ["paper", "cell_only", "between_layers"])
def test_a_projection_of_the_state_leaves_the_normalisers_where_they_are(placement):
    """h = W_hr (s(o) tanh(LN(c))): with the identity in the first rows of W_hr, and W_hh that reads them alone."""
    plain = make("lstm", "ln", placement)
    settings = {"norm": "ln", "norm_options": OPTIONS["ln"], "placement": placement}
    projected = LSTM(D, H, proj_size=H - 1, dtype=torch.float64, **settings)
    with torch.no_grad():
        plain.weight_hh_l0[:, -1] = 0
    state = plain.state_dict() | {"weight_hh_l0": plain.weight_hh_l0[:, :-1]}
    state["weight_hr_l0"] = torch.eye(H, dtype=torch.float64)[:-1]
    if placement == "between_layers":  # normalises the projected outputs
        state |= {f"norm_out_l0.{name}": state[f"norm_out_l0.{name}"][:-1] for name in ("weight", "bias")}
    projected.load_state_dict(state)
    x = noise(T, N, D)
    (y, (h, c)), (y_plain, (h_plain, c_plain)) = projected(x), plain(x)
    torch.testing.assert_close(c, c_plain, **CLOSE)
    torch.testing.assert_close(h, h_plain[..., :-1], **CLOSE)
    if placement == "between_layers":
        norm = projected.norm_out_l0
        expected = nn.functional.layer_norm(h_plain[..., :-1], (H - 1,), norm.weight, norm.bias, 1e-2)
        torch.testing.assert_close(y[-1:], expected, **CLOSE)
    else:
        torch.testing.assert_close(y, y_plain[..., :-1], **CLOSE)


@pytest.mark.parametrize(
    "make_it", [lambda: LSTM(D, H, proj_size=2, backend="fused"), lambda: RNN(D, H, 1, "relu", backend="fused")]
)
def test_what_no_kernel_has_is_refused_by_the_fused_backend_alone(make_it):
    layer = make_it()
    with pytest.raises(ModelError, match=r"model.backend=fused cannot run: the kernels .*; use model.backend=auto"):
        layer(torch.randn(T, N, D))
    layer.backend = "auto"
    assert layer(torch.randn(T, N, D))[0].isfinite().all()


# --- start again ------------------------------------------------------------------------------------------------------


def use(layer: nn.Module) -> None:
    """Move every parameter and running statistic."""
    layer(noise(T + 2, N, D).to(next(layer.parameters()).dtype))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(5.0)


@cells_and_norms
def test_resetting_every_module_leaves_nothing_from_before(cell, norm):
    layer = fresh(cell, norm)
    use(layer)
    torch.manual_seed(0)
    for module in layer.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    torch.testing.assert_close(dict(layer.state_dict()), dict(fresh(cell, norm).state_dict()))


@cells_and_norms
def test_a_layer_made_without_memory_is_valid_after_a_reset(cell, norm):
    expected = dict(fresh(cell, norm).state_dict())
    skipped = nn.utils.skip_init(CELLS[cell], D, H, 2, norm=norm, norm_options=OPTIONS[norm])
    for layer in (fresh(cell, norm, device="meta").to_empty(device="cpu"), skipped):
        with torch.no_grad():
            for tensor in (*layer.parameters(), *layer.buffers()):
                tensor.fill_(7)
        torch.manual_seed(0)
        layer.reset_parameters()
        torch.testing.assert_close(dict(layer.state_dict()), expected)


# --- copies -----------------------------------------------------------------------------------------------------------


def saved_and_loaded(layer: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "twice": lambda layer: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(layer)))),
    "torch.save": saved_and_loaded,
}


@pytest.mark.parametrize("way", COPIES)
@cells_and_norms
def test_a_copy_computes_and_learns_the_same(cell, norm, way):
    layer = make(cell, norm, num_layers=2)
    layer(noise(T, N, D))
    other = COPIES[way](layer)
    assert type(other).__name__ == type(layer).__name__ and isinstance(other, CELLS[cell])
    outcomes = []
    for each in (layer, other):
        parameters = dict(each.named_parameters())
        y = each(noise(T, N, D, seed=1))[0]
        outcomes.append(
            (y, dict(zip(parameters, torch.autograd.grad(y.sin().sum(), parameters.values()), strict=True)))
        )
    torch.testing.assert_close(outcomes[0][0], outcomes[1][0], rtol=0, atol=0)
    assert list(outcomes[0][1]) == list(outcomes[1][1]), "an optimiser's state goes by this order"
    torch.testing.assert_close(outcomes[0][1], outcomes[1][1], rtol=0, atol=0)
    assert list(layer.state_dict()) == list(other.state_dict())


def test_a_pickled_layer_under_weight_norm_keeps_hooks_that_refer_to_it():
    layer = LSTM(D, H, norm="wn")
    layer.this = [layer]
    other = COPIES["pickle"](layer)
    assert other.this[0] is other and not other.weight_ih_l0.is_leaf
    other.load_state_dict(nn.LSTM(D, H).state_dict())  # the way in is there too


def test_parametrisations_of_the_users_are_refused_as_torch_does():
    layer = nn.utils.parametrizations.spectral_norm(LSTM(D, H, norm="wn"), "bias_ih_l0")
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(layer)
    state = nn.LSTM(D, H).state_dict()
    missing, unexpected = layer.load_state_dict(state, strict=False)
    assert unexpected == ["bias_ih_l0"] and all("bias_ih_l0" in name for name in missing), (
        "what torch does with its own"
    )
    torch.testing.assert_close(layer.weight_ih_l0, state["weight_ih_l0"])


# --- state dicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("assign", [False, True], ids=["copied", "assigned"])
@pytest.mark.parametrize("strict", [False, True], ids=["loose", "strict"])
@cells_and_norms
def test_torchs_state_dict_goes_in_and_out(cell, norm, strict, assign):
    theirs = TORCH[cell](D, H, 2, bidirectional=True).double()
    ours = fresh(cell, norm, bidirectional=True, dtype=torch.float64)
    state = {f"part.{name}": value for name, value in theirs.state_dict().items()}
    model = nn.ModuleDict({"part": ours})
    if norm not in PLAIN:
        with pytest.raises(ModelError, match=f"norm={norm} has no place in torch.nn"):
            ours.torch_state_dict()
    if strict and norm not in PLAIN:
        with pytest.raises(RuntimeError, match=r"Missing key.*norm_"):
            model.load_state_dict(state, strict, assign)
        return
    missing, unexpected = model.load_state_dict(state, strict, assign)
    assert not unexpected and all(name.startswith("part.norm_") for name in missing)
    assert bool(missing) == (norm not in PLAIN)
    for weights, expected in zip(ours.all_weights, theirs.all_weights, strict=True):
        torch.testing.assert_close(weights, expected, **CLOSE)
    if norm in PLAIN:
        x = noise(T, N, D)
        torch.testing.assert_close(ours(x)[0], theirs(x)[0], **CLOSE)
        back = TORCH[cell](D, H, 2, bidirectional=True).double()
        back.load_state_dict(ours.torch_state_dict())
        torch.testing.assert_close(back(x)[0], theirs(x)[0], **CLOSE)


@pytest.mark.parametrize("cell", CELLS)
def test_weight_norms_own_state_dict_has_the_names_of_torchs_parametrisation(cell):
    layer = fresh(cell, "wn")
    names = {f"parametrizations.{name}.original{k}" for name in layer.weight_names for k in range(2)}
    assert {name for name in layer.state_dict() if "weight" in name} == names


def test_a_wrong_plain_matrix_is_refused_under_weight_norm():
    state = nn.LSTM(D, H).state_dict() | {"weight_ih_l0": torch.zeros(4 * H, D + 1)}
    with pytest.raises(RuntimeError, match=r"size mismatch for parametrizations\.weight_ih_l0"):
        LSTM(D, H, norm="wn").load_state_dict(state, strict=False)


# --- printing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5, "bidirectional": True},
        {"proj_size": 3, "num_layers": 2},
    ],
)
def test_without_a_norm_print_tells_what_torchs_layer_tells(settings):
    assert str(LSTM(10, 20, **settings)) == str(nn.LSTM(10, 20, **settings))
    if "proj_size" not in settings:
        assert str(GRU(10, 20, **settings)) == str(nn.GRU(10, 20, **settings))
    assert str(RNN(10, 20, 1, "relu")) == "RNN(10, 20, nonlinearity=relu)"


def test_print_leaves_out_the_places_without_a_normaliser():
    printed = str(nn.Sequential(LSTM(10, 20, norm="ln", placement="cell_only")))
    assert "norm_cell_l0" in printed and "NoNorm" not in printed and "norm_out_l0" not in printed
