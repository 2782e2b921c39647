"""The training loop, one for all tasks."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from experiments.config.schema import SGD, Adam, Trainer
from experiments.runs.schedule import Schedule, budget
from experiments.runs.signals import stop_request
from experiments.training import distributed
from experiments.training.optimisation import learning_rate, make_optimizer
from experiments.training.population import estimate_statistics
from experiments.training.probes import watch_summed_inputs
from experiments.training.protocols import Recorder, Task
from experiments.training.step import make_step


class DivergedError(Exception):
    """The loss or the gradient is not finite. `step` is the last step that was applied."""

    def __init__(self, step: int, quantity: str):
        super().__init__(f"{quantity} is not finite after step {step}")
        self.step = step


@dataclass
class LoopState:
    """Where the loop stands. A checkpoint holds it under these names."""

    step: int = 0  # steps done
    seconds: float = 0.0  # of training steps alone, over all attempts
    best: float = math.inf  # lowest validation loss so far ...
    best_step: int = 0  # ... and the step after which it was taken
    train: dict[str, float] = field(default_factory=dict)  # metrics of the last row
    val: dict[str, float] = field(default_factory=dict)  # metrics of the last evaluation
    losses: list[float] = field(default_factory=list)  # of the steps since the last row


def fit(
    model: nn.Module,
    task: Task,
    optim: Adam | SGD,
    settings: Trainer,
    recorder: Recorder,
    measures: Sequence[Callable[[nn.Module], dict[str, float]]] = (),
) -> dict[str, Any]:
    """Train to the budget, from the recorder's checkpoint if there is one.

    measures: what is measured of the model at each quarter of the training beside the validation metrics.

    A row has step, examples, seconds (of training steps alone) and metrics named split/metric. Returns counts, the last
    metrics and the best validation loss. Raises DivergedError before a non-finite step is applied, and Interrupted,
    with a checkpoint saved, at the first step after a request to stop.
    """
    optimizer = make_optimizer(model, optim)
    steps = budget(settings, task.steps_per_epoch, task.batch_size)
    schedule = Schedule.of(settings, steps)
    state = LoopState(**recorder.restore(model, optimizer))
    train_step = make_step(model, task, optimizer, optim.clip, settings)
    last_saved = time.monotonic()

    while state.step < steps:
        started = time.perf_counter()
        row: dict[str, Any] = {}

        # What is due at this step
        stopping = distributed.asked_to_stop()
        evaluating = state.step + 1 in schedule.evaluated
        logging = schedule.logs(state.step + 1)
        probing = settings.statistics and logging

        # Rate
        lr = learning_rate(optim, state.step, steps, task.batch_size)

        # Forward, backward and update
        if not model.training:  # an evaluation left it so
            model.train()
        with watch_summed_inputs(model, row, active=probing):
            results = train_step(task.batch(state.step), lr, wait=logging or stopping, row=row if probing else None)
        state.step += 1

        # Losses and gradients that are known by now are finite
        for at, (loss, grad_norm) in enumerate(results, start=state.step - len(results)):
            state.losses.append(must_be_finite(loss, at, "the training loss"))
            must_be_finite(grad_norm, at, "the gradient")
        state.seconds += time.perf_counter() - started
        if results:
            recorder.progress(state.step, steps, state.seconds, state.losses[-1], state.val)

        # Log, with an evaluation where one is due
        if logging:
            state.train = with_prefix("train", task.metrics(sum(state.losses) / len(state.losses)))
            state.losses.clear()
            row |= {"step": state.step, "examples": state.step * task.batch_size, "seconds": state.seconds}
            row |= {"train/lr": lr, **state.train}
            if optim.clip is not None:
                row["train/grad_norm"] = grad_norm
            if evaluating:
                estimate_statistics(model, task, state.step, settings.population_batches)
                evaluate(model, task, state)
                if state.step in schedule.quarters:
                    for measure in measures:
                        state.val |= measure(model)
                row |= state.val
            recorder.log(row)

        # Checkpoint
        if stopping or (logging and time.monotonic() - last_saved >= settings.checkpoint_every):
            recorder.save(model, optimizer, asdict(state))
            last_saved = time.monotonic()

        # Stop, unless this was the last step
        if stopping and state.step < steps:
            stop_request.raise_if_made()

    recorder.save(model, optimizer, asdict(state))
    return {
        "steps": steps,
        "examples": steps * task.batch_size,
        "epochs": steps / task.steps_per_epoch,
        "seconds": state.seconds,
        "best_val/loss": state.best,
        "best_val/step": state.best_step,
        **state.train,
        **state.val,
    }


def evaluate(model: nn.Module, task: Task, state: LoopState) -> None:
    """Put the validation metrics into the state, and the loss if it is the best. Raises DivergedError."""
    state.val = with_prefix("val", task.evaluate(model, "val"))
    loss = must_be_finite(state.val["val/loss"], state.step, "the validation loss")
    if loss < state.best:
        state.best = loss
        state.best_step = state.step


def must_be_finite(value: float, step: int, quantity: str) -> float:
    """Return the value. Raises DivergedError unless it is finite."""
    if not math.isfinite(value):
        raise DivergedError(step, quantity)
    return value


def with_prefix(split: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in metrics.items()}
