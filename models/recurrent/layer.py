"""What RNN, LSTM and GRU (cells.py) have in common: constructor and call of torch.nn, and a choice of normalisation."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .. import ranks
from ..create_norm import make_norm, norm_entry
from ..errors import ModelError, must_be_one_of
from ..norms import NoNorm, Normaliser
from ..weight_norm import normalise_weights
from . import dispatch
from .arguments import check_input, check_sizes, check_states
from .equations import Norms
from .loop import loop
from .ragged import Ragged, checked_lengths
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

    def frozen(self) -> "Spans":
        return Spans([norm.frozen() for norm in self.norms])

    def over_time(self, z: Tensor, start: int = 0, cases: list[int] | None = None) -> Tensor:
        parts = z.split(self.spans, -1)
        return torch.cat([norm.over_time(part, start, cases) for norm, part in zip(self.norms, parts, strict=True)], -1)


class Recurrent(RecurrentWeights):
    """Base of RNN, LSTM and GRU.

    Constructor and call are torch.nn's, and so are the names and shapes of weights and biases: with norm="none" the
    state dicts are interchangeable. Input (T, N, I), or (N, T, I) with batch_first, or (T, I) for one sequence, or a
    PackedSequence; returns the last layer's outputs (T, N, D*P), packed if the input was, and the final state(s)
    (D*num_layers, N, P), where D = 2 if bidirectional and P = proj_size or H; an LSTM's c has H units.

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

    Raises ModelError for a normaliser or placement that this cell cannot have; what torch.nn raises for wrong sizes,
    inputs and states (arguments.py); ValueError for wrong lengths and resets, for `start` or `reset` in a bidirectional
    layer, and for batch statistics of a single case.
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
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        check_sizes(self, dropout)
        self.norm = norm
        self.norm_options = {key: value for key, value in (norm_options or {}).items() if value is not None}
        self.placement = placement
        self.backend = backend
        self.recompute = recompute
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

    @staticmethod
    def _fold_biases(x: Tensor, b_ih: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (x, b): the input term with the biases that all steps share, and the bias that each step adds."""
        raise TypeError("use RNN, LSTM or GRU")

    def forward(self, input: Tensor | PackedSequence, hx=None, start: int = 0, lengths=None, reset=None):
        for name, given in (("start", start), ("reset", reset is not None)):
            if given and self.bidirectional:
                raise ValueError(f"{name} is given: a bidirectional layer needs the whole sequence at once")
        several = lengths is not None or isinstance(input, PackedSequence)
        if several and dispatch.in_torch_compile():  # which would make a graph for each set of lengths
            outside = torch.compiler.disable(self.forward, reason="sequences of several lengths")
            return outside(input, hx, start, lengths=lengths, reset=reset)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths are given with a packed sequence, which has its own; leave them out")
            return self._packed(input, hx, start, reset)
        check_input(self, input)
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
        if rows.dim() != 2:
            raise ValueError(f"expected packed rows of {self.input_size} inputs, got {tuple(rows.shape)}")
        check_input(self, rows)
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
        """Return the initial h (N, P), and c (N, H), of one layer and direction: zeros where none were given."""
        if hx is None:
            zeros = x.new_zeros(N, self.hidden_size)
            return (zeros[:, : self.proj_size] if self.proj_size else zeros, zeros)[: self.num_states]
        if index == 0:
            check_states(self, hx, () if unbatched else (N,), x.dtype)
        given = hx if self.num_states == 2 else (hx,)
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
        matrices = ("weight_ih", "weight_hh", "weight_hr") if self.proj_size else ("weight_ih", "weight_hh")
        weights = tuple(getattr(self, name + suffix) for name in matrices)
        biases = tuple(getattr(self, name + suffix) for name in ("bias_ih", "bias_hh")) if self.bias else None
        norm = Norms(*[self._modules[f"norm_{role}{suffix}"] for role in Norms._fields])
        tensors = (*initial, *weights, *(biases or ()))
        cpu_only = ragged is not None or reset is not None or self.recompute
        autocast = dispatch.autocast(x)
        obstacle = None
        if self.backend != "reference":
            obstacle = self.unfused or dispatch.obstacle(x, tensors, norm, autocast, cpu_only)
        if obstacle and dispatch.in_torch_compile():  # which would unroll the steps
            outside = torch.compiler.disable(self._run, reason=obstacle)
            return outside(x, initial, index, backwards, start, reset, ragged)
        if self.backend == "fused" and obstacle:
            raise ModelError(f"model.backend=fused cannot run: {obstacle}; use model.backend=auto")
        # What "auto" exports runs wherever PyTorch's own operations do.
        portable = self.backend == "auto" and torch.compiler.is_exporting()
        run: Any = functools.partial(loop, self.step, self._fold_biases)
        if self.backend != "reference" and not obstacle and not portable:
            bfloat16 = dispatch.rounds_factors(x, autocast)
            run = functools.partial(dispatch.sequence, self.cell, run, recompute=self.recompute, bfloat16=bfloat16)
        y, state = run(x, initial, weights, biases, norm, backwards, start, reset, ragged)
        dtype = dispatch.output_type(self.cell, x, initial, autocast)
        if y.dtype is not dtype:
            y, state = y.to(dtype), tuple(part.to(dtype) for part in state)
        if backwards and not isinstance(norm.out, NoNorm):  # statistics by step follow the direction's own order
            y = norm.out.over_time(y.flip(0)).flip(0)
        else:
            y = norm.out.over_time(y, start, ragged.cases if ragged else None)
        return y if y.dtype is dtype else y.to(dtype), state
