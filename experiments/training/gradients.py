"""Gradients through time: how far back the loss of a sequence's last step reaches (Cooijmans et al. 2016, figure 1).

Shapes: T steps, L layers, N cases, H units.
"""

import copy
import math
import sys
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from data import DataError
from experiments.config.errors import ConfigError
from experiments.runs.folder import RunFolder
from experiments.runs.rows import GRADIENT_COLUMNS
from experiments.training.load import Trained, load
from experiments.training.measurements import validation_batches
from experiments.training.protocols import Batch
from models.language_model import LanguageModel
from models.norms import Normaliser
from models.sequence_classifier import SequenceClassifier

MIN_CASES = 64  # windows or images to measure on, as far as the validation split has them
LAGS = 25  # distances from the last step in a table, evenly spread
AT_START, TRAINED = "at the start", "after training"
Reader = LanguageModel | SequenceClassifier  # the networks that read a sequence


def batches(trained: Trained) -> list[Batch]:
    """Return inputs and targets in whole validation batches. Raises ConfigError if there is not even one."""
    task = trained.task()
    try:
        return validation_batches(task)[: math.ceil(MIN_CASES / task.batch_size)]
    except ValueError as error:
        raise ConfigError(f"{trained.folder.run_id}: {error}") from None


def walk(model: Reader, x: Tensor, state=None) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
    """Read a batch step by step; yield the output (N, H) and the states (L, N, H), h and for an LSTM c."""
    recurrent = model.recurrent
    time = 1 if recurrent.batch_first else 0
    for t, x_t in enumerate(sequence(model, x).split(1, time)):
        y, state = recurrent(x_t, state, start=t)
        yield y.squeeze(time), state if isinstance(state, tuple) else (state,)


def sequence(model: Reader, x: Tensor) -> Tensor:
    """Return what the recurrence reads: (T, N, I), or (N, T, I) in a language model."""
    return model.inputs(x) if isinstance(model, LanguageModel) else model.sequence(x)


def gradients_through_time(model: Reader, x: Tensor, targets: Tensor) -> dict[str, list[float]]:
    """Return the norms of d loss_T / d h_t and, for an LSTM, d loss_T / d c_t, t = 1 ... T - 1; means over the cases.

    loss_T is the loss of the last step alone, h_t the state of all layers together. As in training, the normalisers
    take the statistics of the batch, and a classifier's first state has its noise; but there is no dropout.
    """
    model = copy.deepcopy(model).eval()  # a copy, whose running statistics may change
    for module in model.modules():
        if isinstance(module, (Normaliser, SequenceClassifier)):
            module.training = True
    first = model.initial_state(x) if isinstance(model, SequenceClassifier) else None
    *before, (y, _) = walk(model, x, first)
    last = targets[:, -1] if targets.dim() == 2 else targets
    loss = F.cross_entropy(model.output(y), last, reduction="sum")
    gradients = torch.autograd.grad(loss, [state for _, states in before for state in states])
    # (L, N, H) -> the norm over layers and units, for each case; in float32 a square below 1e-45 would be 0
    by_case = [torch.linalg.vector_norm(gradient, dim=(0, 2), dtype=torch.float64) for gradient in gradients]
    norms = torch.stack([norm.mean() for norm in by_case]).view(len(before), -1)
    return {name: by_step.tolist() for name, by_step in zip(("h", "c"), norms.T, strict=False)}


def gradients_of_runs(run_ids: Iterable[str], runs_dir: str) -> pd.DataFrame:
    """Return the norm of d loss_T / d h_t of every run at both moments, by the lag T - t: the mean over the cases.

    A line on stderr names the first of the runs that cannot be measured, as without their checkpoint or their data.
    """
    rows, lacking = [], []
    batches_of: dict[str, list[Batch]] = {}  # the validation split, the same for every run of these data
    for run_id in run_ids:
        try:
            trained = load(RunFolder(runs_dir, run_id))
            if not isinstance(trained.model, Reader) or trained.cfg.data.get("seq_len") == 1:
                raise ConfigError(f"{run_id}: model={trained.cfg.model.name} reads no sequence of several steps here")
            torch.set_num_threads(trained.cfg.threads)
            data = str(trained.cfg.data)
            if data not in batches_of:
                batches_of[data] = batches(trained)
            rows += _rows(trained, batches_of[data])
        except (ConfigError, DataError, OSError) as error:
            lacking.append(str(error))
    if lacking:
        print(f"gradients through time of {len(lacking)} runs are left out: {lacking[0]}", file=sys.stderr)
    return pd.DataFrame(rows, columns=GRADIENT_COLUMNS)


def _rows(trained: Trained, read: list[Batch]) -> list[dict]:
    rows = []
    for moment, model in ((AT_START, trained.at_start()), (TRAINED, trained.model)):
        courses = [gradients_through_time(model, x, targets)["h"][::-1] for x, targets in read]
        by_lag = geometric_mean(courses)
        for index in sorted({round(k * (len(by_lag) - 1) / (LAGS - 1)) for k in range(LAGS)}):
            norm = float(f"{by_lag[index]:.4g}")
            rows.append({"run_id": trained.folder.run_id, "moment": moment, "lag": index + 1, "norm": norm})
    return rows


def geometric_mean(courses: list[list[float]]) -> list[float]:
    """Return the mean on the logarithmic axis of the pictures. A gradient that is 0 in one course gives 0."""
    with np.errstate(divide="ignore"):
        return np.exp(np.log(courses).mean(0)).tolist()
