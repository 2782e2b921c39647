"""Sizes and initial weights of the image models."""

import pytest
import torch
from torch import nn

from models.build import build
from models.create_norm import NormLayer
from models.settings import CNN, MLP, ResNet20
from tests.helpers.networks import CLASSES, IMAGE, batch, size, tiny

# --- sizes ------------------------------------------------------------------------------------------------------------


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
