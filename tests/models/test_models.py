"""The networks: that each can be built with each normaliser and learns, sizes, starts, and what is refused."""

import itertools
import json
import math

import pytest
import torch
from torch import nn

from models.build import build
from models.cnn import CIFARResNet20, PlainCNN
from models.create_norm import NormLayer
from models.errors import ModelError
from models.language_model import LanguageModel
from models.mlp import FullyConnected
from models.norms import NORMS
from models.recurrent import GRU, LSTM, PLACEMENTS, RNN, Recurrent
from models.sequence_classifier import ORDERS, SequenceClassifier
from models.settings import CNN, MLP, SCHEMAS, ImageRecurrent, ResNet20
from models.settings import Recurrent as RecurrentSettings


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


V, IMAGE, CLASSES = 7, (2, 8, 8), 3  # vocabulary, (C, H, W), classes
TINY = {
    "rnn": RecurrentSettings(name="rnn", hidden_size=8),
    "lstm": RecurrentSettings(name="lstm", hidden_size=8),
    "gru": RecurrentSettings(name="gru", hidden_size=8),
    "lstm_embedding": RecurrentSettings(name="lstm", hidden_size=8, input="embedding", embedding_size=5, num_layers=2),
    "gru_tied": RecurrentSettings(name="gru", hidden_size=8, input="embedding", embedding_size=8, tied=True),
    "cnn": CNN(depth=3, width=4),
    "resnet20": ResNet20(width=4),
    "mlp": MLP(hidden_sizes=[8, 6]),
    "mlp_norm_output": MLP(hidden_sizes=[8], norm_output=True),
}


def is_recurrent(settings) -> bool:
    return isinstance(settings, RecurrentSettings)


def tiny(model: str, norm: str = "none", seed: int = 0, **options) -> nn.Module:
    """The model in a small size. Two groups divide every width but the three logits, for which one does."""
    if norm == "gn":
        options = {"groups": 1 if model == "mlp_norm_output" else 2, **options}
    settings = TINY[model]
    torch.manual_seed(seed)
    shape, outputs = ((), V) if is_recurrent(settings) else (IMAGE, CLASSES)
    return build(settings, shape, outputs, NormLayer(norm, options))


def batch(model: str, cases: int = 6, steps: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    if is_recurrent(TINY[model]):
        tokens = torch.randint(V, (cases, steps + 1), generator=generator)
        return tokens[:, :-1], tokens[:, 1:]
    return torch.randn(cases, *IMAGE, generator=generator), torch.randint(CLASSES, (cases,), generator=generator)


def loss_of(network: nn.Module, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    out = network(x)
    logits = out[0] if isinstance(out, tuple) else out
    return nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


COMBINATIONS = [
    (model, norm) for model, norm in itertools.product(TINY, NORMS) if norm != "in" or not is_recurrent(TINY[model])
]


# --- every model with every norm --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model, norm", COMBINATIONS)
def test_one_training_step(model, norm):
    """Finite gradients for every parameter, a step that lowers the loss on its batch, an evaluation."""
    network = tiny(model, norm)
    x, targets = batch(model)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    loss = loss_of(network, x, targets)
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    torch.optim.SGD(network.parameters(), lr=1e-2).step()
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert loss_of(network, x, targets) < loss
    assert loss_of(network.eval(), x, targets).isfinite()


@pytest.mark.parametrize("model, norm", [(model, norm) for model, norm in COMBINATIONS if norm != "none"])
def test_the_same_seed_gives_every_norm_the_same_weights(model, norm):
    """Or a difference between norms could be one between starts. For WN the weights are those it makes of g and v."""

    def start(network):
        tensors = {}
        for name, module in network.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding)):
                tensors[name] = module.weight
            elif isinstance(module, Recurrent):
                tensors |= {f"{name}.{weight}": getattr(module, weight) for weight in module.weight_names}
                tensors |= {name: p for name, p in module.named_parameters(recurse=False) if name.startswith("bias")}
        return tensors

    plain, normalised = start(tiny(model)), start(tiny(model, norm))
    assert plain.keys() == normalised.keys() and len(plain) >= 2
    for name in plain:
        if norm == "wn":
            torch.testing.assert_close(normalised[name], plain[name], rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(normalised[name], plain[name]), name
    assert not torch.equal(next(iter(start(tiny(model, seed=1)).values())), next(iter(plain.values())))


@pytest.mark.parametrize("model", ["cnn", "resnet20", "mlp", "mlp_norm_output"])
@pytest.mark.parametrize("norm", NORMS)
def test_every_hidden_layer_is_normalised(model, norm):
    network = tiny(model, norm)
    wanted = {"cnn": 3, "resnet20": 19, "mlp": 2, "mlp_norm_output": 2}[model]
    assert sum(type(module) is NORMS[norm].cls for module in network.modules()) == wanted


@pytest.mark.parametrize("model", ["cnn", "mlp", "mlp_norm_output"])
def test_weight_norm_with_data_init_starts_every_normalised_layer_standardised(model):
    network = tiny(model, "wn", data_init=True)
    x, _ = batch(model)
    seen = []
    for module in network.modules():
        if type(module) is NORMS["wn"].cls:
            module.register_forward_hook(lambda module, args, out: seen.append(out))
    network(x)
    assert len(seen) >= 2
    for out in seen:
        axes = [axis for axis in range(out.dim()) if axis != 1]
        torch.testing.assert_close(out.mean(axes), torch.zeros(out.shape[1]), rtol=0, atol=1e-5)
        torch.testing.assert_close(out.var(axes, correction=0), torch.ones(out.shape[1]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", ["cnn", "mlp", "mlp_norm_output"])
def test_weight_norm_with_data_init_learns_from_its_first_batch(model):
    """The batch that sets g and b is trained on as well: its gradients are those of the network it has set."""
    network = tiny(model, "wn", data_init=True)
    x, targets = batch(model)
    parameters = dict(network.named_parameters())
    first, again = (
        torch.autograd.grad(loss_of(network, x, targets), parameters.values(), allow_unused=True) for _ in range(2)
    )
    for name, a, b in zip(parameters, first, again, strict=True):
        assert a is not None, f"{name} has no gradient from the first batch"
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


# --- sizes ------------------------------------------------------------------------------------------------------------


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("norm, expected", [("none", 269_034), ("bn", 269_722), ("ln", 269_722), ("rms", 269_722)])
def test_resnet20_has_0_27_million_parameters(norm, expected):
    """He et al. 2016, table 6: 0.27M. Convolutions 267,696, output 650, a bias each for none or a gain and a shift."""
    assert size(build(ResNet20(), (3, 32, 32), 10, NormLayer(norm))) == expected


def test_resnet20_has_20_layers_in_three_stages():
    network = build(ResNet20(), (3, 32, 32), 10, NormLayer("bn"))
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [16] * 7 + [32] * 6 + [64] * 6
    assert [i for i, conv in enumerate(convs) if conv.stride == (2, 2)] == [7, 13]
    with torch.no_grad():
        assert network.blocks(torch.zeros(1, 16, 32, 32)).shape == (1, 64, 8, 8)
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_residual_block_with_zero_convolutions_is_its_shortcut():
    """Option A: every second position, new channels zero (He et al. 2016, section 4.2)."""
    network = tiny("resnet20")
    block = network.blocks[3]  # the first of the second stage: 4 -> 8 channels, half the resolution
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(2, 4, 8, 8)
    y = block(x)
    assert torch.equal(y[:, :4], x[:, :, ::2, ::2]) and torch.equal(y[:, 4:], torch.zeros(2, 4, 4, 4))


@pytest.mark.parametrize("depth", [3, 6, 9])
def test_plain_cnn_has_three_equal_stages(depth):
    network = build(CNN(depth=depth, width=4), IMAGE, CLASSES, NormLayer())
    convs = [conv[0] for conv in network.convs]
    assert [conv.out_channels for conv in convs] == [w for w in (4, 8, 16) for _ in range(depth // 3)]
    strides = [conv.stride[0] for conv in convs]
    assert [i for i, stride in enumerate(strides) if stride == 2] == [depth // 3, 2 * depth // 3]
    assert network(torch.zeros(2, *IMAGE)).shape == (2, CLASSES)


def test_mlp_is_the_papers():
    """784-1000-1000-10 (Ba et al. 2016, section 6.6); the norm's gain and shift replace the hidden biases."""
    plain, normalised = (build(MLP(), (1, 28, 28), 10, NormLayer(norm)) for norm in ("none", "ln"))
    for network in (plain, normalised):
        shapes = [tuple(module.weight.shape) for module in network.modules() if isinstance(module, nn.Linear)]
        assert shapes == [(1000, 784), (1000, 1000), (10, 1000)]
        assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert size(plain) == 785 * 1000 + 1001 * 1000 + 1001 * 10
    assert size(normalised) == size(plain) + 2000


@pytest.mark.parametrize("norm_output", [False, True])
def test_mlp_normalises_its_logits_only_when_asked(norm_output):
    network = build(MLP(hidden_sizes=[8], norm_output=norm_output), IMAGE, CLASSES, NormLayer("ln"))
    logits = network(10 * torch.randn(5, *IMAGE))
    standardised = (logits.mean(1).abs() < 1e-5).all() and ((logits.var(1, correction=0) - 1).abs() < 1e-2).all()
    assert bool(standardised) == norm_output


@pytest.mark.parametrize("norm", ["bn", "ln", "gn", "in", "rms"])
@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_norm_stands_before_the_relu(model, norm):
    """A shift of -100 in a layer switches all its units off, which a norm after the ReLU could not."""
    network = tiny(model, norm)
    last = {"cnn": "convs", "mlp": "hidden"}[model]
    nn.init.constant_(getattr(network, last)[-1][1].bias, -100.0)
    logits = network(batch(model)[0])
    torch.testing.assert_close(logits, network.output.bias.expand_as(logits))


@pytest.mark.parametrize("norm", ["none", "bn", "ln", "gn", "in", "rms"])
def test_residual_block_is_its_equation(norm):
    """y = relu( x + norm(conv(relu(norm(conv(x))))) )  (He et al. 2016, eq. 1, and figure 2)"""
    block = tiny("resnet20", norm).blocks[0]
    (conv1, norm1), (conv2, norm2) = block.conv1, block.conv2
    x = torch.randn(3, 4, 8, 8)
    expected = (x + norm2(conv2(norm1(conv1(x)).clamp(min=0)))).clamp(min=0)
    torch.testing.assert_close(block(x), expected)
    assert (expected == 0).any() and (expected > 0).any()


@pytest.mark.parametrize("norm", ["bn", "ln", "gn", "in", "rms"])
def test_residual_network_normalises_its_stem_before_the_relu(norm):
    network = tiny("resnet20", norm)
    nn.init.constant_(network.stem[1].bias, -100.0)
    seen = []
    network.blocks.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    network(batch("resnet20")[0])
    assert seen[0].shape == (6, 4, 8, 8) and not seen[0].any()


# --- start of the image models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [CNN(width=32), ResNet20(width=32), MLP(hidden_sizes=[500, 500])], ids=str)
def test_he_start(settings):
    """He et al. 2015: weights of standard deviation sqrt(2 / fan-in), biases zero."""
    network = build(settings, (3, 8, 8), 10, NormLayer())
    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(layers) >= 3 and layers[-1] is network.output
    for layer in layers[:-1]:
        fan_in = layer.weight[0].numel()
        assert abs(layer.weight.std().item() * (fan_in / 2) ** 0.5 - 1) < 0.1
        assert not layer.bias.any()


# --- language models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model, cls", [("rnn", RNN), ("lstm", LSTM), ("gru", GRU)])
@pytest.mark.parametrize("norm", ["none", "ln"])
def test_language_model_is_its_recurrent_layer_between_one_hot_and_softmax(model, cls, norm):
    network = tiny(model, norm)
    assert isinstance(network, LanguageModel) and type(network.recurrent) is cls and network.embedding is None
    tokens, _ = batch(model)
    logits, state = network(tokens)
    assert logits.shape == (*tokens.shape, V)
    y, expected_state = network.recurrent(torch.eye(V)[tokens])
    torch.testing.assert_close(logits, y @ network.output.weight.T + network.output.bias)
    torch.testing.assert_close(state, expected_state)


def test_one_hot_input_is_an_embedding_by_the_identity():
    one_hot = tiny("lstm")
    embedded = build(
        RecurrentSettings(name="lstm", hidden_size=8, input="embedding", embedding_size=V), (), V, NormLayer()
    )
    embedded.load_state_dict({**one_hot.state_dict(), "embedding.weight": torch.eye(V)})
    tokens, _ = batch("lstm")
    torch.testing.assert_close(embedded(tokens)[0], one_hot(tokens)[0])


def test_tied_matrices_are_one_parameter():
    network = tiny("gru_tied")
    assert network.output.weight is network.embedding.weight
    untied = build(
        RecurrentSettings(name="gru", hidden_size=8, input="embedding", embedding_size=8), (), V, NormLayer()
    )
    assert size(untied) - size(network) == V * 8
    loss_of(network, *batch("gru_tied")).backward()
    assert network.embedding.weight.grad.abs().sum(1).gt(0).all()


@pytest.mark.parametrize("model", ["rnn", "lstm", "gru", "lstm_embedding"])
def test_text_may_be_cut_and_the_state_handed_on(model):
    network = tiny(model, "ln")
    tokens, _ = batch(model)
    whole, state = network(tokens)
    head, carried = network(tokens[:, :2])
    tail, final = network(tokens[:, 2:], carried)
    torch.testing.assert_close(torch.cat([head, tail], 1), whole)
    torch.testing.assert_close(final, state)


def test_language_model_sees_no_future():
    network = tiny("lstm", "ln")
    tokens, _ = batch("lstm")
    changed = tokens.clone()
    changed[:, 3:] = (changed[:, 3:] + 1) % V
    a, b = network(tokens)[0], network(changed)[0]
    assert torch.equal(a[:, :3], b[:, :3]) and not torch.allclose(a[:, 3:], b[:, 3:])


def test_language_model_drops_its_input_between_layers_and_before_the_output(monkeypatch):
    settings = RecurrentSettings(hidden_size=8, num_layers=2, dropout=0.5)
    network = build(settings, (), V, NormLayer())
    tokens, _ = batch("lstm")
    shapes, dropout = [], nn.functional.dropout

    def spy(x, p, training):
        shapes.append((x.shape[-1], p, training))
        return dropout(x, p, training)

    monkeypatch.setattr(nn.functional, "dropout", spy)
    assert not torch.equal(network(tokens)[0], network(tokens)[0])
    assert shapes == 2 * [(V, 0.5, True), (8, 0.5, True), (8, 0.5, True)]
    network.eval()
    assert torch.equal(network(tokens)[0], network(tokens)[0])


@pytest.mark.parametrize("norm", ["none", "bn", "ln", "wn"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_recurrent_matrices_start_orthogonal_gate_by_gate(name, norm):
    H = 12
    network = build(RecurrentSettings(name=name, hidden_size=H, num_layers=2), (), V, NormLayer(norm))
    for layer in range(2):
        blocks = getattr(network.recurrent, f"weight_hh_l{layer}").split(H)
        assert len(blocks) == {"rnn": 1, "lstm": 4, "gru": 3}[name]
        for block in blocks:
            torch.testing.assert_close(block @ block.T, torch.eye(H), rtol=0, atol=1e-5)
        for one, other in itertools.combinations(blocks, 2):
            assert (one - other).abs().max() > 0.1, "the gates' blocks are drawn apart"


@pytest.mark.parametrize("norm", ["none", "ln"])
@pytest.mark.parametrize("name, forget_bias", [("lstm", 1.0), ("lstm", 2.5), ("gru", 1.0), ("rnn", 1.0)])
def test_biases_start_at_zero_but_the_forget_gates(name, forget_bias, norm):
    H = 8
    network = build(
        RecurrentSettings(name=name, hidden_size=H, num_layers=2, forget_bias=forget_bias), (), V, NormLayer(norm)
    )
    for layer in range(2):
        total = getattr(network.recurrent, f"bias_ih_l{layer}") + getattr(network.recurrent, f"bias_hh_l{layer}")
        expected = torch.zeros_like(total)
        if name == "lstm":
            expected[H : 2 * H] = forget_bias  # gate order i, f, g, o
        assert torch.equal(total, expected)
    assert not network.output.bias.any()


@pytest.mark.parametrize("norm", ["none", "wn"])
@pytest.mark.parametrize("input_scale", [1.0, 0.3])
@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"input": "embedding", "embedding_size": 40},
        {"input": "embedding", "embedding_size": 64, "tied": True},
    ],
    ids=["one_hot", "embedding", "tied"],
)
def test_summed_inputs_start_with_the_standard_deviation_asked_for(inputs, input_scale, norm):
    torch.manual_seed(0)
    settings = RecurrentSettings(hidden_size=64, input_scale=input_scale, **inputs)
    network = build(settings, (), 50, NormLayer(norm))
    x = torch.eye(50) if network.embedding is None else network.embedding.weight
    deviation = (x @ network.recurrent.weight_ih_l0.T).std().item()
    assert abs(deviation / input_scale - 1) < 0.1


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_output_matrix_starts_with_variance_one_over_hidden_size(tied):
    """So that logits start no larger than the hidden state, tied or not, and the first loss is near log V."""
    H = 64
    settings = RecurrentSettings(hidden_size=H, input="embedding", embedding_size=H, tied=tied)
    network = build(settings, (), 50, NormLayer())
    assert abs(network.output.weight.std().item() * H**0.5 - 1) < 0.1
    tokens = torch.randint(50, (20, 31))
    loss = loss_of(network, tokens[:, :-1], tokens[:, 1:]).item()
    assert abs(loss - math.log(50)) < 0.3


@pytest.mark.parametrize("norm", ["bn", "ln", "gn", "rms"])
@pytest.mark.parametrize(
    "placement, places",
    [
        ("paper", {"ih", "hh", "cell"}),
        ("per_gate", {"ih", "hh", "cell"}),
        ("cell_only", {"cell"}),
        ("input_only", {"ih"}),
        ("between_layers", {"out"}),
    ],
)
def test_language_model_hands_norm_options_and_placement_to_every_layer(placement, places, norm):
    settings = RecurrentSettings(hidden_size=8, num_layers=2, placement=placement)
    network = build(settings, (), V, NormLayer(norm, {"gain": 0.5, **({"groups": 2} if norm == "gn" else {})}))
    gains = {
        name.split(".")[0]: parameter
        for name, parameter in network.recurrent.named_parameters()
        if name.startswith("norm_") and name.endswith("weight")
    }
    assert gains.keys() == {f"norm_{place}_l{layer}" for place in places for layer in range(2)}
    assert all(torch.equal(gain, torch.full_like(gain, 0.5)) for gain in gains.values())
    assert sum(type(module) is NORMS[norm].cls for module in network.modules()) == (
        18 if placement == "per_gate" else 2 * len(places)
    )


# --- refusals and the table -------------------------------------------------------------------------------------------


REFUSED = {
    "unknown_model": (CNN(name="vgg"), "none", {}, ["model=vgg", "allowed", "nearest"]),
    "unknown_norm": (CNN(), "lm", {}, ["norm=lm", "nearest"]),
    "unknown_option": (MLP(), "ln", {"groups": 2}, ["norm=ln", "groups"]),
    "unknown_input": (RecurrentSettings(input="bytes"), "none", {}, ["model.input=bytes", "onehot", "embedding"]),
    "tied_one_hot": (RecurrentSettings(tied=True), "none", {}, ["model.tied=true", "model.input=embedding"]),
    "tied_sizes": (
        RecurrentSettings(tied=True, input="embedding", embedding_size=5, hidden_size=8),
        "none",
        {},
        ["model.tied=true", "model.embedding_size", "8"],
    ),
    "order": (ImageRecurrent(order="columns"), "none", {}, ["model.order=columns", *ORDERS, "nearest"]),
    "state_noise": (ImageRecurrent(state_noise=-0.1), "bn", {}, ["model.state_noise=-0.1", "0 or more"]),
    "instance_norm_of_images": (ImageRecurrent(), "in", {}, ["norm=in", "recurrent"]),
    "depth_4": (CNN(depth=4), "none", {}, ["model.depth=4", "three"]),
    "depth_0": (CNN(depth=0), "none", {}, ["model.depth=0", "three"]),
    "groups_cnn": (CNN(width=4), "gn", {"groups": 3}, ["norm.groups=3", "4 channels"]),
    "groups_mlp": (MLP(hidden_sizes=[10]), "gn", {}, ["norm.groups=8", "10 channels"]),
    "instance_norm": (RecurrentSettings(), "in", {}, ["norm=in", "recurrent"]),
    "cell_only": (RecurrentSettings(name="gru", placement="cell_only"), "ln", {}, ["model.placement=cell_only"]),
    "placement": (RecurrentSettings(placement="inside"), "ln", {}, ["model.placement=inside", *PLACEMENTS]),
    "data_init": (RecurrentSettings(), "wn", {"data_init": True}, ["norm.data_init"]),
}


@pytest.mark.parametrize("settings, norm, options, parts", REFUSED.values(), ids=REFUSED)
def test_impossible_settings_are_refused_in_one_line(settings, norm, options, parts):
    with pytest.raises(ModelError) as caught:
        shape, classes = ((), V) if is_recurrent(settings) else (IMAGE, 3)
        build(settings, shape, classes, NormLayer(norm, options))
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message


def test_every_schema_can_be_built_with_its_defaults():
    classes = {
        "recurrent": LanguageModel,
        "image_recurrent": SequenceClassifier,
        "cnn": PlainCNN,
        "resnet20": CIFARResNet20,
        "mlp": FullyConnected,
    }
    assert SCHEMAS.keys() == classes.keys()
    for name, schema in SCHEMAS.items():
        settings = schema()
        shape = () if settings.kind == "text" else IMAGE
        assert type(build(settings, shape, 10, NormLayer("ln"))) is classes[name]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_summed_inputs_of_the_second_layer_start_at_the_same_scale(cell):
    torch.manual_seed(0)
    below, above = (build(RecurrentSettings(name=cell, num_layers=n), (), 50, NormLayer()).recurrent for n in (1, 2))
    x = torch.nn.functional.one_hot(torch.randint(50, (32, 64)), 50).float()
    assert (below(x)[0] @ above.weight_ih_l1.T).std().item() == pytest.approx(1.0, abs=0.15)


# --- images as sequences ----------------------------------------------------------------------------------------------


def reader(name: str = "image_lstm", norm: str = "none", image=IMAGE, **changed) -> SequenceClassifier:
    torch.manual_seed(0)
    return build(ImageRecurrent(name=name, hidden_size=8, **changed), image, CLASSES, NormLayer(norm))


@pytest.mark.parametrize("order", ORDERS)
def test_orders_against_loops(order):
    """rows: step h reads row h of every channel. pixels: step h W + w reads pixel (h, w). permuted: the same, moved."""
    N, C, H, W = 2, 3, 4, 5
    images = torch.randn(N, C, H, W)
    network = reader(order=order, image=(C, H, W))
    got = network.sequence(images)
    if order == "rows":
        assert got.shape == (H, N, C * W)
        for n, c, h, w in itertools.product(range(N), range(C), range(H), range(W)):
            assert got[h, n, c * W + w] == images[n, c, h, w]
    else:
        place = network.permutation.tolist() if order == "permuted" else list(range(H * W))
        assert got.shape == (H * W, N, C)
        for t, n, c in itertools.product(range(H * W), range(N), range(C)):
            assert got[t, n, c] == images[n, c, place[t] // W, place[t] % W]


def test_the_permutation_is_one_and_the_same_for_every_run():
    """Every pixel is read once: drawn with replacement, a third of them would never be."""
    one, other = (reader(name, order="permuted", image=(1, 14, 14)) for name in ("image_lstm", "image_rnn"))
    assert sorted(one.permutation.tolist()) == list(range(14 * 14)) != one.permutation.tolist()
    torch.manual_seed(1)
    again = build(ImageRecurrent(order="permuted"), (1, 14, 14), 10, NormLayer("ln"))
    assert torch.equal(one.permutation, other.permutation) and torch.equal(one.permutation, again.permutation)


@pytest.mark.parametrize("name, cls", [("image_rnn", RNN), ("image_lstm", LSTM), ("image_gru", GRU)])
@pytest.mark.parametrize("norm", ["none", "bn", "ln"])
def test_the_class_is_read_from_the_last_output(name, cls, norm):
    network = reader(name, norm, num_layers=2).eval()
    assert type(network.recurrent) is cls
    images = torch.randn(4, *IMAGE)
    y, _ = network.recurrent(network.sequence(images))
    logits = network(images)
    torch.testing.assert_close(logits, y[-1] @ network.output.weight.T + network.output.bias)
    assert logits.shape == (4, CLASSES) and not torch.allclose(y[-1], y[-2])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("input_scale", [1.0, 0.3])
def test_summed_inputs_of_standardised_images_start_as_asked_for(order, input_scale):
    settings = ImageRecurrent(hidden_size=64, order=order, input_scale=input_scale)
    network = build(settings, (2, 8, 8), 10, NormLayer())
    z = network.sequence(torch.randn(200, 2, 8, 8)) @ network.recurrent.weight_ih_l0.T
    assert z.square().mean().sqrt().item() == pytest.approx(input_scale, rel=0.1)
    for block in network.recurrent.weight_hh_l0.split(64):
        torch.testing.assert_close(block @ block.T, torch.eye(64), rtol=0, atol=1e-5)
    bias = network.recurrent.bias_ih_l0
    assert torch.equal(bias, torch.zeros(256).index_fill_(0, torch.arange(64, 128), 1.0))


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "in"])
@pytest.mark.parametrize("name", ["image_rnn", "image_lstm", "image_gru"])
def test_the_same_seed_gives_every_norm_the_same_images_reader(name, norm):
    """Weights and the noise on the state, which comes from the generator as the weights leave it."""

    def start(norm):
        network = reader(name, norm)
        weights = network.recurrent.weight_ih_l0, network.recurrent.weight_hh_l0, network.output.weight
        return weights, network.initial_state(torch.zeros(2, *IMAGE))

    for mine, plain in zip(start(norm), start("none"), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-6, atol=1e-7)


def test_noise_on_the_state_is_for_training_alone():
    network = reader(num_layers=2, state_noise=0.5)
    images = torch.randn(500, *IMAGE)
    h, c = network.initial_state(images)
    assert h.shape == c.shape == (2, 500, 8) and not c.any()
    assert h.std().item() == pytest.approx(0.5, rel=0.05) and h.mean().abs() < 0.05
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert network.initial_state(images) is None and torch.equal(network(images), network(images))
    assert reader(state_noise=0.0).initial_state(images) is None
    assert reader("image_gru").initial_state(images).shape == (1, 500, 8)


@pytest.mark.parametrize("name", ["image_rnn", "image_lstm", "image_gru"])
def test_batch_norm_survives_pixels_that_are_the_same_in_every_case(name):
    """100 steps of variance 0: without noise on the state the gradient grows by 1/sqrt(eps) at each and overflows."""

    def gradient(norm, **changed):
        network = reader(name, norm, image=(1, 12, 12), order="pixels", **changed)
        images = torch.full((16, 1, 12, 12), -0.42)
        images[:, :, 9:] = torch.randn(16, 1, 3, 12)
        loss = loss_of(network, images, torch.arange(16) % CLASSES)
        assert loss.isfinite() and loss_of(network.eval(), images, torch.arange(16) % CLASSES).isfinite()
        loss.backward()
        return nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None]).item()

    assert gradient("bn") < 100
    assert not gradient("bn", state_noise=0.0) < 100, "if this passes, the noise is no longer needed"


def test_reader_of_images_learns_by_the_real_entry_point(cli, tmp_path):
    choice = [
        "model=image_gru",
        "model.order=permuted",
        "model.hidden_size=32",
        "norm=bn",
        "data=digits",
        "data.pool=2",
    ]
    done = cli("train", *choice, "trainer.steps=60", "optim.lr=0.01", "wandb.mode=disabled")
    assert done.returncode == 0, done.stderr
    [summary] = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/summary.json")]
    assert summary["status"] == "done" and summary["model"] == "image_gru" and summary["test/accuracy"] > 30
