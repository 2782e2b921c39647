"""RNN, LSTM and GRU with a choice of normalisation: drop-in for torch.nn.RNN, torch.nn.LSTM and torch.nn.GRU."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import PackedSequence

from .. import ranks
from ..create_norm import make_norm, norm_entry
from ..errors import ModelError, must_be_one_of
from ..norms import NoNorm, Normaliser
from . import dispatch
from .equations import Norms, gru_step, lstm_step, rnn_step
from .ragged import Ragged, checked_lengths

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

    def frozen(self) -> "Spans":
        return Spans([norm.frozen() for norm in self.norms])

    def over_time(self, z: Tensor, start: int = 0, cases: list[int] | None = None) -> Tensor:
        parts = z.split(self.spans, -1)
        return torch.cat([norm.over_time(part, start, cases) for norm, part in zip(self.norms, parts, strict=True)], -1)


class Recurrent(nn.Module):
    """Base of RNN, LSTM and GRU.

    Constructor and call are torch.nn's (an RNN is tanh and has no `nonlinearity`), and so are the names and shapes of
    weights and biases: with norm="none" the state dicts are interchangeable. Input (T, N, I), or (N, T, I) with
    batch_first, or (T, I) for one sequence, or a PackedSequence; returns the last layer's outputs (T, N, D*H), packed
    if the input was, and the final state(s) (D*num_layers, N, H), D = 2 if bidirectional.

    Beyond torch.nn, of the call:
        start: how many steps the given state has behind it, where a sequence comes in pieces. The pieces then give what
        the whole gives: batch normalisation, with its statistics by step, has to know where it is.
        lengths: (N,) integers, the steps of each sequence, in any order; the rest of the input is padding. As if it
        were packed: outputs past a sequence's end are zeros, its final state is that of its own last step, the second
        direction starts there, and no statistic, output or gradient depends on padding.
        reset: (T, N) bool, (N, T) with batch_first: before which steps a case's state becomes zeros, through which no
        gradient flows; for sequences that are cut out of one stream. Steps are counted on.

    Of the constructor:
        norm: none, bn, ln, wn, gn, rms. norm_options: as in configs/norm. placement: see PLACEMENTS ("none" and "wn",
        which leave activations alone, have no placement). backend: see BACKENDS; both agree up to rounding.
        recompute: keep no gates for the backward pass of the fused kernel, which then runs forward again: less memory,
        more time, the same bits.

    Parameters of layer k (and, with the suffix _reverse, of its other direction), G gates, I_k = I or D*H inputs:

        weight_ih_lk   (G*H, I_k)   uniform in +-1/sqrt(H)
        weight_hh_lk   (G*H, H)     uniform in +-1/sqrt(H)
        bias_ih_lk     (G*H,)       uniform in +-1/sqrt(H); the bias of a normaliser of W_ih x too
        bias_hh_lk     (G*H,)       uniform in +-1/sqrt(H); the bias of a normaliser of W_hh h too
        norm_<role>_lk.weight       the gain: norm_options["gain"], 1 by default, 0.1 for bn; (G*H,) of the roles ih, hh
                                    and sum, (H,) of cell and out; .norms.<span>.weight where each gate has its own
        norm_<role>_lk.bias         (H,), 0; of the roles cell and out alone

    With norm="wn" weight_* are re-parametrised by torch.nn.utils.parametrizations.weight_norm.

    Raises ModelError for a normaliser or placement that this cell cannot have; ValueError for wrong shapes and lengths,
    for `start` or `reset` in a bidirectional layer, and for batch statistics of a single case.
    """

    cell: ClassVar[str]
    gates: ClassVar[int]
    num_states: ClassVar[int] = 1  # 2 for the LSTM: h and c
    step: ClassVar

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        norm: str = "none",
        norm_options: Mapping | None = None,
        placement: str = "paper",
        backend: str = "auto",
        recompute: bool = False,
    ):
        super().__init__()
        must_be_one_of("model.backend", backend, BACKENDS)
        if recompute and backend == "reference":
            raise ModelError("recompute=True is of the fused kernel; use torch.utils.checkpoint with backend=reference")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.norm = norm
        self.norm_options = {key: value for key, value in (norm_options or {}).items() if value is not None}
        self.placement = placement
        self.backend = backend
        self.recompute = recompute
        directions = ["", "_reverse"] if bidirectional else [""]
        self.suffixes = [f"_l{layer}{direction}" for layer in range(num_layers) for direction in directions]

        spans = self._spans(norm, placement)
        options = {**norm_entry(norm).recurrent, **self.norm_options}
        make_norm(norm, hidden_size, options)  # refuses a wrong option also where no activation is normalised
        for index, suffix in enumerate(self.suffixes):
            inputs = input_size if index < self.num_directions else hidden_size * self.num_directions
            self._add_weights(suffix, inputs)
            self._add_norms(suffix, spans, options)
        self.reset_parameters()
        if norm_entry(norm).on_weights:
            self._normalise_weights(options)

    def _add_weights(self, suffix: str, inputs: int) -> None:
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, self.hidden_size)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        for name, shape in shapes.items():
            self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape)))

    def _add_norms(self, suffix: str, spans: Mapping[str, list[int]], options: Mapping) -> None:
        for role in Norms._fields:
            # The layer's biases serve the normalisers of the gates; those of cell and output have their own.
            bias = self.bias and role in ("cell", "out")
            norms = [make_norm(self.norm, span, options, bias=bias) for span in spans.get(role, ())]
            module = Spans(norms) if len(norms) > 1 else norms[0] if norms else NoNorm(self.hidden_size)
            self.add_module(f"norm_{role}{suffix}", module)

    def _normalise_weights(self, options: Mapping) -> None:
        if options.get("data_init"):
            raise ModelError("norm.data_init=true is for feed-forward layers; set norm.data_init=false with an RNN")
        for name in self.weight_names:
            weight_norm(self, name)

    def extra_repr(self) -> str:
        """Return sizes and whatever differs from the defaults, as torch.nn's layers print themselves."""
        defaults: dict[str, Any] = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        defaults |= {
            "bidirectional": False,
            "norm": "none",
            "norm_options": {},
            "placement": "paper",
            "backend": "auto",
            "recompute": False,
        }
        changed = [f"{name}={getattr(self, name)}" for name, value in defaults.items() if getattr(self, name) != value]
        return ", ".join([str(self.input_size), str(self.hidden_size), *changed])

    @property
    def num_directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def weight_names(self) -> list[str]:
        """Names of the matrices, input and recurrent, of every layer and direction."""
        return [name + suffix for suffix in self.suffixes for name in ("weight_ih", "weight_hh")]

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
            "between_layers": {"out": [H]},
        }[placement]

    def _gate_spans(self, H: int) -> list[int]:
        return [self.gates * H]

    def _paper_spans(self, gates: list[int], H: int) -> dict[str, list[int]]:
        return {"ih": gates, "hh": gates}

    @staticmethod
    def _fold_biases(x: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (x, b): the input term with the biases that all steps share, and the bias that each step adds."""
        raise TypeError("use RNN, LSTM or GRU")

    def reset_parameters(self) -> None:
        """Initialise weights and biases as torch.nn does: uniform in +-1/sqrt(H)."""
        bound = self.hidden_size**-0.5
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith(("weight", "bias")):
                nn.init.uniform_(parameter, -bound, bound)

    @torch.no_grad()
    def assign(self, name: str, value: Tensor) -> None:
        """Set a matrix by its torch.nn name, whether or not weight normalisation re-parametrises it."""
        if nn.utils.parametrize.is_parametrized(self, name):
            setattr(self, name, value.detach())
        else:
            getattr(self, name).copy_(value)

    def forward(self, input: Tensor | PackedSequence, hx=None, start: int = 0, *, lengths=None, reset=None):
        for name, given in (("start", start), ("reset", reset is not None)):
            if given and self.bidirectional:
                raise ValueError(f"{name} is given: a bidirectional layer needs the whole sequence at once")
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths are given with a packed sequence, which has its own; leave them out")
            return self._packed(input, hx, start, reset)
        if input.dim() not in (2, 3) or input.shape[-1] != self.input_size:
            raise ValueError(f"expected (T, N, {self.input_size}) or (T, {self.input_size}), got {tuple(input.shape)}")
        unbatched = input.dim() == 2
        x = input.unsqueeze(1) if unbatched else input.transpose(0, 1) if self.batch_first else input
        T, N, _ = x.shape
        reset = self._resets(reset, x.device, T, N, unbatched)
        ragged = None
        if lengths is not None and (lengths := checked_lengths(lengths, T, N)).lt(T).any():
            ragged = Ragged.of_lengths(lengths, x.device)
        x, states = self._layers(ragged.rows(x) if ragged else x, hx, start, reset, ragged, unbatched)
        if ragged:
            x = ragged.padded(x, T)
        if unbatched:
            x, states = x.squeeze(1), tuple(state.squeeze(1) for state in states)
        elif self.batch_first:
            x = x.transpose(0, 1)
        return x, states if self.num_states == 2 else states[0]

    def _packed(self, packed: PackedSequence, hx, start: int, reset: Tensor | None):
        """Run a packed sequence: outputs packed in the same way, and the state after each sequence's own last step."""
        rows, batch_sizes, order, back = packed
        if rows.dim() != 2 or rows.shape[-1] != self.input_size:
            raise ValueError(f"expected packed rows of {self.input_size} inputs, got {tuple(rows.shape)}")
        ragged = Ragged(batch_sizes, order)
        reset = self._resets(reset, rows.device, len(batch_sizes), ragged.cases[0])
        y, states = self._layers(rows, hx, start, reset, ragged)
        y = PackedSequence(y.reshape(len(rows), -1), batch_sizes, order, back)
        return y, states if self.num_states == 2 else states[0]

    def _resets(self, reset, device: torch.device, T: int, N: int, unbatched: bool = False) -> Tensor | None:
        """Return `reset` as (T, N) on the device."""
        if reset is None:
            return None
        reset = torch.as_tensor(reset, device=device)
        expected = (T,) if unbatched else (N, T) if self.batch_first else (T, N)
        if reset.dtype != torch.bool or tuple(reset.shape) != expected:
            raise ValueError(f"expected a reset of bool and shape {expected}, got {reset.dtype}, {tuple(reset.shape)}")
        return reset.view(T, N) if unbatched else reset.t() if self.batch_first else reset

    def _layers(self, x: Tensor, hx, start: int, reset: Tensor | None, ragged: Ragged | None, unbatched: bool = False):
        """Run all layers over x (T, N, I), or (rows, I) of `ragged`: outputs, and final states (D*num_layers, N, H).

        hx, reset (T, N) and the final states are in the caller's order of cases.
        """
        N, order = x.shape[1], None
        if ragged:
            N, order = ragged.cases[0], ragged.order
            reset = None if reset is None else ragged.rows(reset)
            if ragged.cases[-1] == N:  # a batch of one length after all
                x, reset, ragged = x.view(-1, N, self.input_size), None if reset is None else reset.view(-1, N), None
            elif self.norm == "bn" and self.training and ranks.is_distributed():
                raise ValueError(
                    "batch statistics over several ranks need sequences of one length; pad, or use norm=ln"
                )
        finals = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(self.num_directions):
                index = layer * self.num_directions + direction
                initial = self._initial(hx, index, x, N, unbatched, order)
                y, final = self._run(x, initial, index, direction == 1, start, reset, ragged)
                outputs.append(y)
                finals.append(final)
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
            if layer + 1 < self.num_layers:
                x = nn.functional.dropout(x, self.dropout, self.training)
        states = tuple(torch.stack(state) for state in zip(*finals, strict=True))
        return x, states if order is None else tuple(state.index_select(1, order.argsort()) for state in states)

    def _initial(self, hx, index: int, x: Tensor, N: int, unbatched: bool, order: Tensor | None) -> tuple[Tensor, ...]:
        """Return the initial state(s) (N, H) of one layer and direction: zeros where none were given."""
        if hx is None:
            return (x.new_zeros(N, self.hidden_size),) * self.num_states
        given = hx if self.num_states == 2 else (hx,)
        expected = (len(self.suffixes), self.hidden_size) if unbatched else (len(self.suffixes), N, self.hidden_size)
        for state in given:
            if tuple(state.shape) != expected:
                raise ValueError(f"expected an initial state of shape {expected}, got {tuple(state.shape)}")
        states = tuple(state[index].unsqueeze(0) if unbatched else state[index] for state in given)
        return states if order is None else tuple(state.index_select(0, order) for state in states)

    def _run(self, x: Tensor, initial: tuple[Tensor, ...], index: int, backwards: bool, start: int, reset, ragged):
        """Run one layer in one direction: return outputs (T, N, H), or (rows, H), and the final state(s) (N, H).

        t counts the steps in the direction's own order, so per-step statistics of both directions start at their edge.
        """
        if backwards and ragged:
            y, state = self._run(ragged.flip(x), initial, index, False, start, reset, ragged)
            return ragged.flip(y), state
        suffix = self.suffixes[index]
        weights = getattr(self, "weight_ih" + suffix), getattr(self, "weight_hh" + suffix)
        biases = tuple(getattr(self, name + suffix) for name in ("bias_ih", "bias_hh")) if self.bias else None
        norm = Norms(*(getattr(self, f"norm_{role}{suffix}") for role in Norms._fields))
        tensors = (*initial, *weights, *(biases or ()))
        cpu_only = ragged is not None or reset is not None or self.recompute
        autocast = dispatch.autocast(x)
        obstacle = None if self.backend == "reference" else dispatch.obstacle(x, tensors, norm, autocast, cpu_only)
        if obstacle and dispatch.in_torch_compile():  # which would unroll the steps
            outside = torch.compiler.disable(self._run, reason=obstacle)
            return outside(x, initial, index, backwards, start, reset, ragged)
        if self.backend == "fused" and obstacle:
            raise ModelError(f"model.backend=fused cannot run: {obstacle}; use model.backend=auto")
        # What "auto" exports runs wherever PyTorch's own operations do.
        portable = self.backend == "auto" and torch.compiler.is_exporting()
        run: Any = self.loop
        if self.backend != "reference" and not obstacle and not portable:
            run = functools.partial(dispatch.sequence, type(self), recompute=self.recompute)
        y, state = run(x, initial, weights, biases, norm, backwards, start, reset, ragged)
        dtype = dispatch.output_type(self.cell, x, initial, autocast)
        if y.dtype is not dtype:
            y, state = y.to(dtype), tuple(part.to(dtype) for part in state)
        if backwards and not isinstance(norm.out, NoNorm):  # statistics by step follow the direction's own order
            y = norm.out.over_time(y.flip(0)).flip(0)
        else:
            y = norm.out.over_time(y, start, ragged.cases if ragged else None)
        return y if y.dtype is dtype else y.to(dtype), state

    @classmethod
    def loop(cls, x: Tensor, state: tuple[Tensor, ...], weights, biases, norm, backwards, start, reset, ragged):
        """Run the equations, step by step."""
        W_ih, W_hh = weights
        b_ih, b_hh = biases or (x.new_zeros(()),) * 2
        if backwards:
            x = x.flip(0)
        cases = None if ragged is None else ragged.cases
        x, b = cls._fold_biases(norm.ih.over_time(x @ W_ih.T, start, cases), b_ih, b_hh)
        resets = None if reset is None else _steps(reset[..., None], cases)
        alone = None if cases is None else Norms(*(role.frozen() for role in norm))
        outputs, ended = [], []
        for s, x_t in enumerate(_steps(x, cases)):
            if cases is not None and cases[s] < len(state[0]):
                ended.append(tuple(each[cases[s] :] for each in state))
                state = tuple(each[: cases[s]] for each in state)
            if resets is not None:
                state = tuple(each.masked_fill(resets[s], 0) for each in state)
            norms = alone if cases is not None and cases[s] == 1 else norm
            state = cls.step(x_t, state, W_hh, b, norms, start + s)
            outputs.append(state[0])
        if cases is not None:
            return torch.cat(outputs), tuple(map(torch.cat, zip(state, *reversed(ended), strict=True)))
        y = torch.stack(outputs)
        return (y.flip(0) if backwards else y), state


def _steps(z: Tensor, cases: list[int] | None) -> tuple[Tensor, ...]:
    """z (T, N, ...) or (rows, ...), step by step."""
    return z.unbind(0) if cases is None else z.split(cases)


class RNN(Recurrent):
    """tanh recurrence, eq. 4: h_t = tanh( LN(W_hh h_{t-1} + W_xh x_t) + b )."""

    cell = "rnn"
    gates = 1
    step = staticmethod(rnn_step)

    def _paper_spans(self, gates, H):
        return {"sum": gates}

    @staticmethod
    def _fold_biases(x, b_ih, b_hh):
        return x, b_ih + b_hh


class LSTM(Recurrent):
    """LN-LSTM, eq. 20-22; gate order i, f, g, o."""

    cell = "lstm"
    gates = 4
    num_states = 2
    step = staticmethod(lstm_step)

    def _paper_spans(self, gates, H):
        return {"ih": gates, "hh": gates, "cell": [H]}

    @staticmethod
    def _fold_biases(x, b_ih, b_hh):
        return x + (b_ih + b_hh), None


class GRU(Recurrent):
    """LN-GRU, eq. 26-28; gate order r, z, n. The gates share statistics over 2H, the candidate has its own over H."""

    cell = "gru"
    gates = 3
    step = staticmethod(gru_step)

    def _gate_spans(self, H):
        return [2 * H, H]

    @staticmethod
    def _fold_biases(x, b_ih, b_hh):
        return x + b_ih, b_hh
