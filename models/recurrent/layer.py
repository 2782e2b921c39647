"""RNN, LSTM and GRU with a choice of normalisation: drop-in for torch.nn.RNN, torch.nn.LSTM and torch.nn.GRU."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..create_norm import make_norm, norm_entry
from ..errors import ModelError, must_be_one_of
from ..norms import NoNorm, Normaliser
from ..weight_norm import normalise_weights
from . import dispatch
from .arguments import check_input, check_sizes, check_states
from .equations import Norms, gru_step, lstm_step, rnn_relu_step, rnn_step
from .weights import RecurrentWeights

# Where a normaliser stands. The summed inputs are those of all gates joined.
#   paper           the equations of Ba et al. 2016
#   per_gate        as paper, but the statistics of each gate's H units are apart (most public "LN-LSTMs")
#   cell_only       the gates plain, only LN(c) before the output's tanh (the paper's DRAW model)
#   input_only      W_x x alone, the recurrence plain (Laurent et al. 2015)
#   between_layers  the recurrence plain, each layer's output normalised
PLACEMENTS = ("paper", "per_gate", "cell_only", "input_only", "between_layers")
# What computes the recurrence.
#   fused       one kernel for the whole sequence, forward and backward; refuses where it cannot run
#   reference   the equations (equations.py), a loop of PyTorch operations over the steps
#   auto        fused where it can run, else reference
BACKENDS = ("auto", "fused", "reference")


class Spans(nn.Module):
    """One normaliser for each span of the features: (N, sum of spans) in and out."""

    def __init__(self, norms: list[Normaliser]):
        super().__init__()
        self.norms: Any = nn.ModuleList(norms)
        self.spans = [norm.num_features for norm in norms]

    def forward(self, z: Tensor, t: int = 0) -> Tensor:
        return torch.cat([norm(part, t) for norm, part in zip(self.norms, z.split(self.spans, -1), strict=True)], -1)

    def over_time(self, z: Tensor, start: int = 0) -> Tensor:
        parts = z.split(self.spans, -1)
        return torch.cat([norm.over_time(part, start) for norm, part in zip(self.norms, parts, strict=True)], -1)


class Recurrent(RecurrentWeights):
    """Base of RNN, LSTM and GRU.

    Constructor and call are torch.nn's, and so are the names and shapes of weights and biases: with norm="none" the
    state dicts are interchangeable. Input (T, N, I), or (N, T, I) with batch_first, or (T, I) for one sequence; returns
    the last layer's outputs (T, N, D*P) and the final state(s) (D*num_layers, N, P), where D = 2 if bidirectional and
    P = proj_size or H; an LSTM's c has H units.

    Beyond torch.nn:
        start, of the call: how many steps the given state has behind it, where a sequence comes in pieces. The pieces
        then give what the whole gives: batch normalisation, with its statistics by step, has to know where it is.
        norm: none, bn, ln, wn, gn, rms. norm_options: as in configs/norm. placement: see PLACEMENTS ("none" and "wn",
        which leave activations alone, have no placement). backend: see BACKENDS; both agree up to rounding.

    Parameters of layer k (and, with the suffix _reverse, of its other direction), G gates, I_k = I or D*P inputs:

        weight_ih_lk   (G*H, I_k)   uniform in +-1/sqrt(H)
        weight_hh_lk   (G*H, P)     uniform in +-1/sqrt(H)
        bias_ih_lk     (G*H,)       uniform in +-1/sqrt(H); the bias of a normaliser of W_ih x too
        bias_hh_lk     (G*H,)       uniform in +-1/sqrt(H); the bias of a normaliser of W_hh h too
        weight_hr_lk   (P, H)       uniform in +-1/sqrt(H); of an LSTM with proj_size
        norm_<role>_lk.weight       the gain: norm_options["gain"], 1 by default, 0.1 for bn; (G*H,) of the roles ih, hh
                                    and sum, (H,) of cell, (P,) of out; .norms.<span>.weight where each gate has its own
        norm_<role>_lk.bias         as its gain, 0; of the roles cell and out alone

    With norm="wn" weight_* are re-parametrised by torch.nn.utils.parametrizations.weight_norm.

    Raises ModelError for a normaliser or placement that this cell cannot have, TypeError for a packed sequence (padded
    steps would enter batch statistics), and what torch.nn raises for wrong sizes, inputs and states (arguments.py).
    """

    unfused: str | None = None  # why no kernel has this layer's equations
    step: Any  # the equations of one step

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        norm: str = "none",
        norm_options: Mapping | None = None,
        placement: str = "paper",
        backend: str = "auto",
    ):
        super().__init__()
        must_be_one_of("model.backend", backend, BACKENDS)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        check_sizes(self, dropout)
        self.norm = norm
        self.norm_options = {key: value for key, value in (norm_options or {}).items() if value is not None}
        self.placement = placement
        self.backend = backend
        if proj_size:
            self.unfused = "the kernels have no projection"
        directions = ["", "_reverse"] if bidirectional else [""]
        self.suffixes = [f"_l{layer}{direction}" for layer in range(num_layers) for direction in directions]

        spans = self._spans(norm, placement)
        options = {**norm_entry(norm).recurrent, **self.norm_options}
        make_norm(norm, hidden_size, options)  # refuses a wrong option also where no activation is normalised
        placed = {"device": device, "dtype": dtype}
        for index, suffix in enumerate(self.suffixes):
            inputs = input_size if index < self.num_directions else self.state_sizes[0] * self.num_directions
            for name, shape in self._shapes(inputs).items():
                self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, **placed)))
            self._add_norms(suffix, spans, options, placed)
        self.reset_parameters()
        if norm_entry(norm).on_weights:
            if options.get("data_init"):
                raise ModelError("norm.data_init=true is for feed-forward layers; set norm.data_init=false with an RNN")
            normalise_weights(self, self.weight_names)

    def _add_norms(self, suffix: str, spans: Mapping[str, list[int]], options: Mapping, placed: Mapping) -> None:
        for role in Norms._fields:
            # The layer's biases serve the normalisers of the gates; those of cell and output have their own.
            bias = self.bias and role in ("cell", "out")
            norms = [make_norm(self.norm, span, options, bias=bias, **placed) for span in spans.get(role, ())]
            module = Spans(norms) if len(norms) > 1 else norms[0] if norms else NoNorm(self.hidden_size)
            self.add_module(f"norm_{role}{suffix}", module)

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _spans(self, norm: str, placement: str) -> dict[str, list[int]]:
        """Return for each role that the placement normalises the sizes of the spans with statistics of their own."""
        entry = norm_entry(norm)
        if entry.refused_in_recurrence:
            raise ModelError(
                f"norm={norm} is refused in a recurrent layer: {entry.refused_in_recurrence}; use norm=ln or norm=gn"
            )
        must_be_one_of("model.placement", placement, PLACEMENTS)
        if entry.on_weights or norm == "none":
            return {}  # activations are left alone, whatever the placement
        H = self.hidden_size
        joined, per_gate = self._gate_spans(H), [H] * self.gates
        if placement == "cell_only" and self.num_states == 1:
            raise ModelError(
                f"model.placement=cell_only needs a cell state, which {type(self).__name__} lacks; use LSTM"
            )
        return {
            "paper": self._paper_spans(joined, H),
            "per_gate": self._paper_spans(per_gate, H),
            "cell_only": {"cell": [H]},
            "input_only": {"ih": joined},
            "between_layers": {"out": [self.state_sizes[0]]},
        }[placement]

    def _gate_spans(self, H: int) -> list[int]:
        return [self.gates * H]

    def _paper_spans(self, gates: list[int], H: int) -> dict[str, list[int]]:
        return {"ih": gates, "hh": gates}

    def _fold_biases(self, x: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (x, b): the input term with the biases that all steps share, and the bias that each step adds."""
        raise TypeError("use RNN, LSTM or GRU")

    def forward(self, input: Tensor, hx=None, start: int = 0):
        if isinstance(input, PackedSequence):
            raise TypeError("packed sequences are not supported: pad them and mask the loss, or group by length")
        check_input(self, input)
        if start and self.bidirectional:
            raise ValueError(f"start={start}: a bidirectional layer needs the whole sequence at once")
        unbatched = input.dim() == 2
        x = input.unsqueeze(1) if unbatched else input.transpose(0, 1) if self.batch_first else input
        finals = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self.num_directions):
                index = layer * self.num_directions + direction
                initial = self._initial(hx, index, x, unbatched)
                y, final = self._run(x, initial, index, backwards=direction == 1, start=start)
                outputs.append(y)
                finals.append(final)
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
            if layer + 1 < self.num_layers:
                x = nn.functional.dropout(x, self.dropout, self.training)
        states = tuple(torch.stack(state) for state in zip(*finals, strict=True))
        if unbatched:
            x, states = x.squeeze(1), tuple(state.squeeze(1) for state in states)
        elif self.batch_first:
            x = x.transpose(0, 1)
        return x, states if self.num_states == 2 else states[0]

    def _initial(self, hx, index: int, x: Tensor, unbatched: bool) -> tuple[Tensor, ...]:
        """Return the initial h (N, P), and c (N, H), of one layer and direction: zeros where none were given."""
        if hx is None:
            zeros = x.new_zeros(x.shape[1], self.hidden_size)
            return (zeros[:, : self.proj_size] if self.proj_size else zeros, zeros)[: self.num_states]
        if index == 0:
            check_states(self, hx, () if unbatched else (x.shape[1],), x.dtype)
        given = hx if self.num_states == 2 else (hx,)
        return tuple(state[index].unsqueeze(0) if unbatched else state[index] for state in given)

    def _run(self, x: Tensor, state: tuple[Tensor, ...], index: int, backwards: bool, start: int):
        """Run one layer in one direction over x (T, N, I): return outputs (T, N, H) and the final state(s) (N, H).

        t counts the steps in the direction's own order, so per-step statistics of both directions start at their edge.
        """
        suffix = self.suffixes[index]
        matrices = ("weight_ih", "weight_hh", "weight_hr") if self.proj_size else ("weight_ih", "weight_hh")
        weights = tuple(getattr(self, name + suffix) for name in matrices)
        biases = tuple(getattr(self, name + suffix) for name in ("bias_ih", "bias_hh")) if self.bias else None
        norm = Norms(*(getattr(self, f"norm_{role}{suffix}") for role in Norms._fields))
        tensors = (*state, *weights, *(biases or ()))
        obstacle = None if self.backend == "reference" else self.unfused or dispatch.obstacle(x, tensors, norm)
        if self.backend == "fused" and obstacle:
            raise ModelError(f"model.backend=fused cannot run: {obstacle}; use model.backend=auto")
        if self.backend == "reference" or obstacle:
            y, state = self._loop(x, state, weights, biases, norm, backwards, start)
        else:
            y, state = dispatch.sequence(self.cell, x, state, weights, biases, norm, backwards, start)
        if backwards and not isinstance(norm.out, NoNorm):  # statistics by step follow the direction's own order
            return norm.out.over_time(y.flip(0)).flip(0), state
        return norm.out.over_time(y, start), state

    def _loop(self, x: Tensor, state: tuple[Tensor, ...], weights, biases, norm, backwards: bool, start: int):
        """Run the equations, step by step."""
        W_ih, W_hh, *W_hr = weights
        b_ih, b_hh = biases or (x.new_zeros(()),) * 2
        if backwards:
            x = x.flip(0)
        x, b = self._fold_biases(norm.ih.over_time(x @ W_ih.T, start), b_ih, b_hh)
        outputs = []
        for t, x_t in enumerate(x.unbind(0), start):
            state = self.step(x_t, state, W_hh, b, norm, t, *W_hr)
            outputs.append(state[0])
        y = torch.stack(outputs)
        return (y.flip(0) if backwards else y), state


class RNN(Recurrent):
    """Recurrence of eq. 4: h_t = tanh( LN(W_hh h_{t-1} + W_xh x_t) + b ), or relu, which runs by the reference."""

    cell = "rnn"
    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity={nonlinearity} is unknown; choose tanh or relu")
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(*sizes, bias, batch_first, dropout, bidirectional, proj_size, device, dtype, **options)
        self.nonlinearity = nonlinearity
        if nonlinearity == "relu":
            self.unfused = "the kernels know the tanh recurrence alone"

    @property
    def mode(self) -> str:
        return f"RNN_{self.nonlinearity.upper()}"

    @property
    def step(self):
        return rnn_relu_step if self.nonlinearity == "relu" else rnn_step

    def _paper_spans(self, gates, H):
        return {"sum": gates}

    def _fold_biases(self, x, b_ih, b_hh):
        return x, b_ih + b_hh


class LSTM(Recurrent):
    """LN-LSTM, eq. 20-22; gate order i, f, g, o.

    With proj_size, which runs by the reference, state and output are h_t = W_hr ( s(o) tanh(LN(c_t)) ), P units: no
    normaliser stands at the projection but that of placement="between_layers", which normalises these P.
    """

    cell = "lstm"
    gates = 4
    num_states = 2
    step = staticmethod(lstm_step)

    def _paper_spans(self, gates, H):
        return {"ih": gates, "hh": gates, "cell": [H]}

    def _fold_biases(self, x, b_ih, b_hh):
        return x + (b_ih + b_hh), None


class GRU(Recurrent):
    """LN-GRU, eq. 26-28; gate order r, z, n. The gates share statistics over 2H, the candidate has its own over H."""

    cell = "gru"
    gates = 3
    step = staticmethod(gru_step)

    def _gate_spans(self, H):
        return [2 * H, H]

    def _fold_biases(self, x, b_ih, b_hh):
        return x + b_ih, b_hh
