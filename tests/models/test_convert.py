"""Weights of haste's and TensorFlow Addons' layers, against their published equations step by step."""

import numpy as np
import pytest
import torch

from models import AddonsLSTM, ModelError, from_haste, from_keras

D, H, T, N = 3, 4, 5, 2


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer_norm(z: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor | float, eps: float) -> torch.Tensor:
    rows = []
    for row in z:
        mu = row.sum() / len(row)
        variance = ((row - mu) * (row - mu)).sum() / len(row)
        rows.append(gamma * (row - mu) / (variance + eps) ** 0.5 + beta)
    return torch.stack(rows)


def s(z: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + torch.exp(-z))


def haste_weights() -> dict[str, torch.Tensor]:
    shapes = {"kernel": (D, 4 * H), "recurrent_kernel": (H, 4 * H), "bias": (4 * H,), "gamma": (2, 4 * H)}
    shapes |= {"gamma_h": (H,), "beta_h": (H,)}
    return {name: draw(*shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items())}


def test_haste_lstm():
    """frameworks/pytorch/layer_norm_lstm.py and lib/layer_norm_lstm_forward_gpu.cu.cc of lmnt-com/haste."""
    w, x = haste_weights(), draw(T, N, D, seed=9)
    h = c = torch.zeros(N, H, dtype=torch.float64)
    outputs = []
    for x_t in x:
        Wx = layer_norm(x_t @ w["kernel"], w["gamma"][0], 0, 1e-5)
        Rh = layer_norm(h @ w["recurrent_kernel"], w["gamma"][1], 0, 1e-5)
        v = Wx + Rh + w["bias"]
        i, g, f, o = s(v[:, :H]), torch.tanh(v[:, H : 2 * H]), s(v[:, 2 * H : 3 * H]), s(v[:, 3 * H :])
        c = f * c + i * g
        h = o * torch.tanh(layer_norm(c, w["gamma_h"], w["beta_h"], 1e-5))
        outputs.append(h)
    for backend in ("fused", "reference"):
        y, (h_n, c_n) = from_haste(w, backend=backend)(x)
        torch.testing.assert_close(y, torch.stack(outputs), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close((h_n[0], c_n[0]), (h, c), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("eps", [None, 0.1])
def test_addons_lstm_carries_the_normalised_cell(use_bias, eps):
    """tensorflow_addons/rnn/layer_norm_lstm_cell.py: the cell that is handed on is the normalised one."""
    shapes = [(D, 4 * H), (H, 4 * H), *[(4 * H,)] * 5, (H,), (H,)]
    kernel, recurrent_kernel, bias, *norms = (draw(*shape, seed=seed) for seed, shape in enumerate(shapes))
    gamma_x, beta_x, gamma_h, beta_h, gamma_c, beta_c = norms
    e = 1e-3 if eps is None else eps
    x = draw(N, T, D, seed=19)
    h = c = torch.zeros(N, H, dtype=torch.float64)
    outputs = []
    for t in range(T):
        z = layer_norm(x[:, t] @ kernel, gamma_x, beta_x, e) + layer_norm(h @ recurrent_kernel, gamma_h, beta_h, e)
        z = z + (bias if use_bias else 0)
        i, f, g, o = s(z[:, :H]), s(z[:, H : 2 * H]), torch.tanh(z[:, 2 * H : 3 * H]), s(z[:, 3 * H :])
        c = layer_norm(f * c + i * g, gamma_c, beta_c, e)
        h = o * torch.tanh(c)
        outputs.append(h)
    arrays = [each.numpy() for each in (kernel, recurrent_kernel, *([bias] if use_bias else []), *norms)]
    layer = from_keras(arrays, eps, batch_first=True)
    y, (h_n, c_n) = layer(x)
    torch.testing.assert_close(y, torch.stack(outputs, 1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close((h_n[0], c_n[0]), (h, c), rtol=1e-10, atol=1e-10)
    assert from_keras(arrays, 0.0).norm_options == {"eps": 0.0}
    again = AddonsLSTM(D, H, batch_first=True, norm="ln", norm_options={"eps": e}, dtype=torch.float64)
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(x)[0], y, rtol=0, atol=0)


@pytest.mark.parametrize("use_bias", [True, False])
def test_addons_simple_rnn(use_bias):
    """tensorflow_addons/rnn/layer_norm_simple_rnn_cell.py: y_t = tanh( ln(x_t W_xh + y_{t-1} W_hh) + b )."""
    kernel, recurrent_kernel, bias, gamma = draw(D, H, seed=0), draw(H, H, seed=1), draw(H, seed=2), draw(H, seed=3)
    x, h, outputs = draw(N, T, D, seed=9), torch.zeros(N, H, dtype=torch.float64), []
    for t in range(T):
        net = layer_norm(x[:, t] @ kernel + h @ recurrent_kernel, gamma, 0, 1e-5)
        h = torch.tanh(net + (bias if use_bias else 0))
        outputs.append(h)
    arrays = [kernel, recurrent_kernel, *([bias] if use_bias else []), gamma]
    y, _ = from_keras([each.numpy() for each in arrays], batch_first=True, backend="fused")(x)
    torch.testing.assert_close(y, torch.stack(outputs, 1), rtol=1e-10, atol=1e-10)


def test_float32_arrays_give_a_float32_layer():
    arrays = [np.ones(shape, dtype=np.float32) for shape in ((D, H), (H, H), (H,), (H,))]
    assert {parameter.dtype for parameter in from_keras(arrays).parameters()} == {torch.float32}


def test_other_weights_are_refused_in_one_line():
    weights = haste_weights()
    del weights["gamma_h"]
    with pytest.raises(
        ModelError, match=r"haste's LayerNormLSTM has kernel, .*; got kernel, recurrent_kernel, bias, gamma"
    ):
        from_haste(weights)
    with pytest.raises(ModelError, match="got 2 arrays; LayerNormLSTMCell has 9"):
        from_keras([np.ones((D, H)), np.ones((H, H))])
