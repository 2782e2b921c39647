"""Images read as sequences."""

import itertools
import json

import pytest
import torch
from torch import nn

from models.build import build
from models.create_norm import NormLayer
from models.norms import NORMS
from models.recurrent import GRU, LSTM, RNN
from models.sequence_classifier import ORDERS, SequenceClassifier
from models.settings import ImageRecurrent
from tests.helpers.networks import CLASSES, IMAGE, loss_of


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
