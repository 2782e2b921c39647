"""Layers with the weights of other libraries' LN-LSTMs and LN-RNNs: one layer, one direction.

    haste     LayerNormLSTM of haste_pytorch: eq. 20-22 with gates in the order i, g, f, o and eps = 1e-5
    Keras     LayerNormSimpleRNN and LayerNormLSTMCell of TensorFlow Addons: eq. 4, and eq. 20-22 but for the state that
              is carried on, which is LN(c_t) (AddonsLSTM)

Both keep matrices as (inputs, gates * H). Zoneout, DropConnect and dropout are not carried over.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from .cells import LSTM, RNN
from .equations import lstm_step_of_addons

HASTE = ("kernel", "recurrent_kernel", "bias", "gamma", "gamma_h", "beta_h")
HASTE_EPS = 1e-5  # lib/layer_norm_forward_gpu.cu.cc
KERAS_EPS = {1: 1e-5, 6: 1e-3}  # by the number of the normalisers' arrays: of LayerNormSimpleRNN, LayerNormLSTMCell


class AddonsLSTM(LSTM):
    """TensorFlow Addons' LayerNormLSTMCell: as LSTM, but LN(c_t) is carried on, in place of c_t. Has no kernel.

    (i,f,g,o)_t = LN(W_h h_{t-1}) + LN(W_x x_t) + b ;  c_t = LN( s(f) c_{t-1} + s(i) tanh(g) ) ;  h_t = s(o) tanh(c_t)
    """

    step = staticmethod(lstm_step_of_addons)
    unfused = "the kernels carry the state c_t on as it is, not LN(c_t)"


def from_haste(weights: Mapping[str, Tensor], **settings: Any) -> LSTM:
    """Return the LSTM with the weights of haste's LayerNormLSTM, given its state dict.

    settings: of the LSTM, as batch_first and backend. Raises ModelError for another state dict.
    """
    if set(weights) != set(HASTE):
        raise ModelError(f"haste's LayerNormLSTM has {', '.join(HASTE)}; got {', '.join(weights) or 'nothing'}")
    joined = {name: _gates_from_igfo(value) for name, value in weights.items() if not name.endswith("_h")}
    gains = {"ih": joined["gamma"][0], "hh": joined["gamma"][1], "cell": weights["gamma_h"]}
    matrices = joined["kernel"], joined["recurrent_kernel"]
    biases = joined["bias"], torch.zeros_like(joined["bias"])
    return _filled(LSTM, matrices, biases, gains, weights["beta_h"], HASTE_EPS, settings)


def from_keras(weights: Sequence[Any], eps: float | None = None, **settings: Any) -> LSTM | RNN:
    """Return the layer with the weights of TensorFlow Addons' LayerNormLSTMCell or LayerNormSimpleRNN(Cell).

    weights: as `get_weights()` of the layer returns them, arrays in the order kernel, recurrent_kernel, bias, then
    gamma and beta of kernel_norm, recurrent_norm and state_norm (LSTM) or gamma (SimpleRNN); bias is absent with
    use_bias=False. eps: norm_epsilon or layernorm_epsilon, if it is not the default, 1e-3 and 1e-5. settings: of the
    layer, as batch_first=True, which is Keras's layout. Raises ModelError for another number of arrays.
    """
    arrays = [torch.as_tensor(array) for array in weights]
    if len(arrays) not in (3, 4, 8, 9):
        raise ModelError(
            f"got {len(arrays)} arrays; LayerNormLSTMCell has 9, LayerNormSimpleRNN 4, and each one less without bias"
        )
    kernel, recurrent_kernel, *rest = arrays
    bias = rest.pop(0) if len(arrays) in (4, 9) else kernel.new_zeros(kernel.shape[1])
    matrices = kernel, recurrent_kernel
    if eps is None:
        eps = KERAS_EPS[len(rest)]
    if len(rest) == 1:
        return _filled(RNN, matrices, (bias, torch.zeros_like(bias)), {"sum": rest[0]}, None, eps, settings)
    gains = dict(zip(("ih", "hh", "cell"), rest[::2], strict=True))
    beta_ih, beta_hh, beta_cell = rest[1::2]
    return _filled(AddonsLSTM, matrices, (beta_ih + bias, beta_hh), gains, beta_cell, eps, settings)


def _gates_from_igfo(joined: Tensor) -> Tensor:
    """Put the gates along the last axis from the order i, g, f, o into torch.nn's, i, f, g, o."""
    i, g, f, o = joined.chunk(4, -1)
    return torch.cat([i, f, g, o], -1)


def _filled(cls: Any, matrices: Any, biases: Any, gains: Mapping, beta_cell: Any, eps: float, settings: Mapping) -> Any:
    """Return a layer of one step's equations with these weights, in their type and on their device."""
    kernel, recurrent_kernel = matrices
    placed = {"device": kernel.device, "dtype": kernel.dtype, **settings}
    layer = cls(len(kernel), len(recurrent_kernel), norm="ln", norm_options={"eps": eps}, **placed)
    state = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent_kernel.T}
    state |= {"bias_ih_l0": biases[0], "bias_hh_l0": biases[1]}
    state |= {f"norm_{role}_l0.weight": gain for role, gain in gains.items()}
    if beta_cell is not None:
        state["norm_cell_l0.bias"] = beta_cell
    layer.load_state_dict(state)
    return layer
