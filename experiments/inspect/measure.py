"""Measurements inside trained networks: states, gates, gradients through time, summed inputs over training.

All are taken on whole validation batches of the training batch size, in evaluation mode unless stated otherwise.
Shapes: T steps, L layers, N cases, H units.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from experiments.training.gradients import (
    AT_START,
    TRAINED,
    Reader,
    geometric_mean,
    gradients_through_time,
    sequence,
    walk,
)
from experiments.training.load import Trained
from models.handwriting import HandwritingNetwork
from models.norms import NoNorm, Normaliser

MAX_VALUES = 100_000  # of a layer's activations, drawn at random
CLOSED, OPEN = 0.1, 0.9  # a gate is saturated below and above
GATE_CHUNKS = {  # cell type -> gate -> its place among the chunks of the summed inputs
    "lstm": {"input": 0, "forget": 1, "output": 3},
    "gru": {"reset": 0, "update": 1},
}


@dataclass(frozen=True)
class Saturation:
    """The shares of a gate's values that are CLOSED and OPEN, by unit (H,) and by time step (T,)."""

    closed_by_unit: np.ndarray
    open_by_unit: np.ndarray
    closed_by_step: np.ndarray
    open_by_step: np.ndarray


# --- recurrent networks -----------------------------------------------------------------------------------------------


@torch.no_grad()
def hidden_states(model: Reader, x: Tensor) -> Tensor:
    """Return h of every step and layer, (T, L, N, H), before a normaliser of the layer's outputs."""
    return torch.stack([states[0] for _, states in walk(model, x)])


@torch.no_grad()
def gates(model: Reader, x: Tensor, h: Tensor) -> list[dict[str, Tensor]]:
    """Return each layer's gates between 0 and 1, by name, (T, N, H). h: the hidden states. Empty for an RNN.

    lstm    (i,f,g,o)_t = n_ih(W_ih x_t) + b_ih + n_hh(W_hh h_{t-1}) + b_hh ;  input s(i), forget s(f), output s(o)
    gru     (r,z,n)_t likewise ;  reset s(r), update s(z), which keeps the old state
    """
    recurrent = model.recurrent
    if recurrent.cell not in GATE_CHUNKS:
        return []
    x = sequence(model, x)
    x = x.transpose(0, 1) if recurrent.batch_first else x
    layers = []
    for k, suffix in enumerate(recurrent.suffixes):
        summed = gate_inputs(recurrent, suffix, x, h[:, k])
        chunks = summed.chunk(recurrent.gates, -1)
        layers.append({gate: chunks[index].sigmoid() for gate, index in GATE_CHUNKS[recurrent.cell].items()})
        x = getattr(recurrent, f"norm_out{suffix}").over_time(h[:, k])
    return layers


def gate_inputs(recurrent: nn.Module, suffix: str, x: Tensor, h: Tensor) -> Tensor:
    """Return the normalised summed inputs of one layer's gates for all steps, (T, N, gates * H)."""
    weight_ih, weight_hh, bias_ih, bias_hh, norm_ih, norm_hh = (
        getattr(recurrent, name + suffix)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "norm_ih", "norm_hh")
    )
    previous = torch.cat([torch.zeros_like(h[:1]), h[:-1]])
    summed = norm_ih.over_time(x @ weight_ih.T) + bias_ih
    return summed + norm_hh.over_time(previous @ weight_hh.T) + bias_hh


# --- activations ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def activations(model: Reader | nn.Module, x: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
    """Return a flat tensor for each layer: h of a recurrent network, else each normaliser's output, before the ReLU.

    targets: of x; the texts that a handwriting network writes.
    """
    if isinstance(model, HandwritingNetwork):
        return {f"layer {k + 1}": _subsample(h) for k, h in enumerate(model.hidden_states(x, targets).unbind(1))}
    if isinstance(model, Reader):
        h = hidden_states(model, x)
        return {f"layer {k + 1}": _subsample(h[:, k]) for k in range(h.shape[1])}
    outputs: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: _subsample(output)}))
        for name, module in normalisers(model).items()
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return {name.removesuffix(".1"): values for name, values in outputs.items()}


def normalisers(model: nn.Module) -> dict[str, Normaliser]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Normaliser)}


def _subsample(values: Tensor) -> Tensor:
    values = values.flatten()
    if len(values) <= MAX_VALUES:
        return values
    return values[torch.randint(len(values), (MAX_VALUES,), generator=torch.Generator().manual_seed(0))]


# --- over training ----------------------------------------------------------------------------------------------------


def summed_inputs(trained: Trained) -> pd.DataFrame:
    """Return mean and std of the summed inputs before and after each normaliser, as they were logged.

    Columns: location, step, normalised (False for the identity), before/mean, before/std, after/mean, after/std. Empty
    if the run did not log them. Parts of a layer that are normalised separately, such as gates, are pooled.
    """
    parts_of: dict[str, list[tuple[str, Normaliser]]] = {}
    for name, module in normalisers(trained.model).items():
        parts_of.setdefault(name.partition(".norms.")[0], []).append((name, module))
    rows = []
    for logged in trained.folder.metrics():
        for location, parts in parts_of.items():
            if f"in/{parts[0][0]}/mean" in logged:
                rows.append({"location": location, "step": logged["step"], **_statistics(logged, parts)})
    return pd.DataFrame(rows)


def _statistics(logged: dict, parts: list[tuple[str, Normaliser]]) -> dict:
    """Return the statistics of one location in one logged row."""
    row: dict = {"normalised": not isinstance(parts[0][1], NoNorm)}
    for side, key in (("before", "in"), ("after", "out")):
        of_parts = [
            (logged[f"{key}/{name}/mean"], logged[f"{key}/{name}/std"], module.num_features) for name, module in parts
        ]
        row[f"{side}/mean"], row[f"{side}/std"] = _pooled(of_parts)
    return row


def _pooled(parts: list[tuple[float, float, int]]) -> tuple[float, float]:
    """Return mean and std of all values together, from (mean, std, size) of each part."""
    total = sum(size for _, _, size in parts)
    mean = sum(mean * size for mean, _, size in parts) / total
    square = sum((mean**2 + std**2) * size for mean, std, size in parts) / total
    return mean, max(square - mean**2, 0.0) ** 0.5


# --- the runs of one cell together ------------------------------------------------------------------------------------


def pooled_activations(runs: list[Trained], batches: list) -> dict[str, np.ndarray]:
    """Return the values of all runs, by layer."""
    x, targets = map(torch.cat, zip(*batches, strict=True))
    by_run = [activations(run.model, x, targets) for run in runs]
    return {layer: torch.cat([values[layer] for values in by_run]).numpy() for layer in by_run[0]}


def saturation(runs: list[Trained], batches: list) -> list[dict[str, Saturation]]:
    """Return by layer and gate the units of all runs, and the mean course over the time steps."""
    x = torch.cat([x for x, _ in batches])
    by_run = [gates(run.model, x, hidden_states(run.model, x)) for run in runs]
    return [
        {gate: _saturation([layers[k][gate] for layers in by_run]) for gate in layer}
        for k, layer in enumerate(by_run[0])
    ]


def _saturation(gates: list[Tensor]) -> Saturation:
    """gates: (T, N, H) of each run."""
    closed = [(values < CLOSED).float() for values in gates]
    opened = [(values > OPEN).float() for values in gates]

    def by_unit(shares: list[Tensor]) -> np.ndarray:
        return torch.cat([share.mean((0, 1)) for share in shares]).numpy()

    def by_step(shares: list[Tensor]) -> np.ndarray:
        return torch.stack([share.mean((1, 2)) for share in shares]).mean(0).numpy()

    return Saturation(by_unit(closed), by_unit(opened), by_step(closed), by_step(opened))


def gradients(runs: list[Trained], batches: list) -> dict[str, dict[str, list[float]]]:
    """Return, at the start and after training, the geometric mean over runs and batches, by state and step."""
    models_at = {
        AT_START: [run.at_start() for run in runs],
        TRAINED: [run.model for run in runs],
    }
    means = {}
    for moment, models in models_at.items():
        norms = [gradients_through_time(model, x, targets) for model in models for x, targets in batches]
        means[moment] = {state: geometric_mean([by_state[state] for by_state in norms]) for state in norms[0]}
    return means


def mean_summed_inputs(runs: list[Trained]) -> pd.DataFrame:
    """Return the summed inputs, averaged over the runs."""
    rows = pd.concat([summed_inputs(run) for run in runs])
    if rows.empty:
        return rows
    return rows.groupby(["location", "step", "normalised"], sort=False, as_index=False).mean()
