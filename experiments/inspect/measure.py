"""What is inside a trained network: states, gates, gradients through time, summed inputs over training.

Everything is measured on whole validation batches of the training batch size, in evaluation mode where nothing else is
said. Shapes: T steps, L layers, N cases, H units.
"""

import copy
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.config.errors import ConfigError
from experiments.inspect.draw import Saturation
from experiments.training.load import Trained
from experiments.training.measurements import validation_batches
from models.language_model import LanguageModel
from models.norms import NoNorm, Normaliser
from models.sequence_classifier import SequenceClassifier

CASES = 64  # at least as many windows or images are looked at, as far as the validation split has them
VALUES = 100_000  # of a layer's activations at most, drawn at random
Reader = LanguageModel | SequenceClassifier  # the networks that read a sequence
GATES = {"lstm": ("input", "forget", "output"), "gru": ("reset", "update")}


def batches(trained: Trained) -> list[tuple[Tensor, Tensor]]:
    """Inputs and targets. Raises ConfigError where the validation split has not even one batch."""
    task = trained.task()
    try:
        return validation_batches(task)[: math.ceil(CASES / task.batch_size)]
    except ValueError as error:
        raise ConfigError(f"{trained.folder.run_id}: {error}") from None


# --- recurrent networks -----------------------------------------------------------------------------------------------


def walk(model: Reader, x: Tensor, state=None) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
    """The network reads a batch step by step: the output (N, H) and the states (L, N, H), h and for an LSTM c."""
    recurrent = model.recurrent
    time = 1 if recurrent.batch_first else 0
    for t, x_t in enumerate(sequence(model, x).split(1, time)):
        y, state = recurrent(x_t, state, start=t)
        yield y.squeeze(time), state if isinstance(state, tuple) else (state,)


def sequence(model: Reader, x: Tensor) -> Tensor:
    """What the recurrence reads: (T, N, I), or (N, T, I) in a language model."""
    return model.inputs(x) if isinstance(model, LanguageModel) else model.sequence(x)


@torch.no_grad()
def hidden_states(model: Reader, x: Tensor) -> Tensor:
    """h of every step and layer, (T, L, N, H), before a normaliser of the layer's outputs."""
    return torch.stack([states[0] for _, states in walk(model, x)])


@torch.no_grad()
def gates(model: Reader, x: Tensor, h: Tensor) -> list[dict[str, Tensor]]:
    """Each layer's gates between 0 and 1, by name, (T, N, H). h: the hidden states. Empty for an RNN, which has none.

    lstm    (i,f,g,o)_t = n_ih(W_ih x_t) + b_ih + n_hh(W_hh h_{t-1}) + b_hh ;  input s(i), forget s(f), output s(o)
    gru     (r,z,n)_t likewise ;  reset s(r), update s(z), which keeps the old state
    """
    recurrent = model.recurrent
    names = GATES.get(recurrent.cell, ())
    places = (0, 1, 3) if recurrent.cell == "lstm" else (0, 1)
    x = sequence(model, x)
    x = x.transpose(0, 1) if recurrent.batch_first else x
    layers = []
    for k, suffix in enumerate(recurrent.suffixes if names else ()):
        part = {name: getattr(recurrent, name + suffix) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        norm = {role: getattr(recurrent, f"norm_{role}{suffix}") for role in ("ih", "hh", "out")}
        before = torch.cat([torch.zeros_like(h[:1, k]), h[:-1, k]])
        summed = norm["ih"].over_time(x @ part["weight_ih"].T) + part["bias_ih"]
        summed = summed + norm["hh"].over_time(before @ part["weight_hh"].T) + part["bias_hh"]
        chunks = summed.chunk(recurrent.gates, -1)
        layers.append({name: chunks[place].sigmoid() for name, place in zip(names, places, strict=True)})
        x = norm["out"].over_time(h[:, k])
    return layers


def gradients_through_time(model: Reader, x: Tensor, targets: Tensor) -> dict[str, list[float]]:
    """The norm of d loss_T / d h_t, and for an LSTM of d loss_T / d c_t, for t = 1 ... T - 1; the mean over the cases.

    loss_T is the loss of the last step alone, h_t the state of all layers together (Cooijmans et al. 2016, figure 1).
    As in training: the normalisers take the statistics of the batch, and a classifier's first state has its noise; but
    without dropout.
    """
    model = copy.deepcopy(model).eval()  # whose running statistics may move
    for module in model.modules():
        if isinstance(module, (Normaliser, SequenceClassifier)):
            module.training = True
    first = model.initial_state(x) if isinstance(model, SequenceClassifier) else None
    *before, (y, _) = walk(model, x, first)
    last = targets[:, -1] if targets.dim() == 2 else targets
    loss = F.cross_entropy(model.output(y), last, reduction="sum")
    gradients = torch.autograd.grad(loss, [state for _, states in before for state in states])
    # (L, N, H) -> the norm over layers and units, for each case
    norms = torch.stack([gradient.norm(dim=(0, 2)).mean() for gradient in gradients]).view(len(before), -1)
    return {name: course.tolist() for name, course in zip(("h", "c"), norms.T, strict=False)}


# --- activations ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def activations(model: Reader | nn.Module, x: Tensor) -> dict[str, Tensor]:
    """By layer, as a flat tensor: of a recurrent network h, of another what leaves each normaliser, before the ReLU."""
    if isinstance(model, Reader):
        h = hidden_states(model, x)
        return {f"layer {k + 1}": _drawn(h[:, k]) for k in range(h.shape[1])}
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: _drawn(output)}))
        for name, module in normalisers(model).items()
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return {name.removesuffix(".1"): values for name, values in seen.items()}


def normalisers(model: nn.Module) -> dict[str, Normaliser]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Normaliser)}


def _drawn(values: Tensor) -> Tensor:
    values = values.flatten()
    if len(values) <= VALUES:
        return values
    return values[torch.randint(len(values), (VALUES,), generator=torch.Generator().manual_seed(0))]


# --- over training ----------------------------------------------------------------------------------------------------


def summed_inputs(trained: Trained) -> pd.DataFrame:
    """Mean and standard deviation of the summed inputs before and after each normaliser, as they were logged.

    Columns: place, step, normalised (False where nothing is done to them), before/mean, before/std, after/mean,
    after/std. Empty where the run did not log them. Parts of a layer that are normalised apart, as a gate, are pooled.
    """
    by_place: dict[str, list[tuple[str, Normaliser]]] = {}
    for name, module in normalisers(trained.model).items():
        by_place.setdefault(name.partition(".norms.")[0], []).append((name, module))
    lines = []
    for row in trained.folder.metrics():
        for place, parts in by_place.items():
            if f"in/{parts[0][0]}/mean" not in row:
                continue
            line = {"place": place, "step": row["step"], "normalised": not isinstance(parts[0][1], NoNorm)}
            for side, key in (("before", "in"), ("after", "out")):
                known = [(row[f"{key}/{name}/mean"], row[f"{key}/{name}/std"], m.num_features) for name, m in parts]
                line[f"{side}/mean"], line[f"{side}/std"] = _pooled(known)
            lines.append(line)
    return pd.DataFrame(lines)


def _pooled(parts: list[tuple[float, float, int]]) -> tuple[float, float]:
    """Mean and deviation of all values together, from (mean, deviation, size) of each part."""
    whole = sum(size for _, _, size in parts)
    mean = sum(mean * size for mean, _, size in parts) / whole
    square = sum((mean**2 + std**2) * size for mean, std, size in parts) / whole
    return mean, max(square - mean**2, 0.0) ** 0.5


# --- runs of one cell together ----------------------------------------------------------------------------------------


def pooled_activations(runs: list[Trained], batches: list) -> dict[str, np.ndarray]:
    """By layer, the values of all runs."""
    x = torch.cat([x for x, _ in batches])
    found = [activations(run.model, x) for run in runs]
    return {layer: torch.cat([values[layer] for values in found]).numpy() for layer in found[0]}


def saturation(runs: list[Trained], batches: list) -> list[dict[str, Saturation]]:
    """By layer and gate: the units of all runs, and the mean course over the time steps."""
    x = torch.cat([x for x, _ in batches])
    found = [gates(run.model, x, hidden_states(run.model, x)) for run in runs]
    return [
        {gate: _shares([layers[k][gate] for layers in found]) for gate in found[0][k]} for k in range(len(found[0]))
    ]


def _shares(values: list[Tensor]) -> Saturation:
    """values: (T, N, H) of each run."""
    closed, opened = ([outside(v).float() for v in values] for outside in (lambda v: v < 0.1, lambda v: v > 0.9))
    by_unit = [torch.cat([share.mean((0, 1)) for share in side]).numpy() for side in (closed, opened)]
    by_step = [torch.stack([share.mean((1, 2)) for share in side]).mean(0).numpy() for side in (closed, opened)]
    return Saturation(*by_unit, *by_step)


def gradients(runs: list[Trained], batches: list) -> dict[str, dict[str, list[float]]]:
    """At the start and after training: by state, the geometric mean over runs and batches, step by step."""
    found = {}
    for moment, models in (
        ("at the start", [run.at_start() for run in runs]),
        ("after training", [run.model for run in runs]),
    ):
        each = [gradients_through_time(model, x, targets) for model in models for x, targets in batches]
        found[moment] = {state: _geometric([norms[state] for norms in each]) for state in each[0]}
    return found


def _geometric(courses: list[list[float]]) -> list[float]:
    """The mean on the logarithmic axis that it is drawn on. A gradient that is 0 in one of them gives 0."""
    with np.errstate(divide="ignore"):
        return np.exp(np.log(courses).mean(0)).tolist()


def mean_summed_inputs(runs: list[Trained]) -> pd.DataFrame:
    rows = pd.concat([summed_inputs(run) for run in runs])
    return rows.groupby(["place", "step", "normalised"], sort=False, as_index=False).mean() if len(rows) else rows
