"""The training loop, one for all tasks."""

import math
import time
from typing import Any

from torch import nn

from experiments.config.schema import SGD, Adam, Trainer
from experiments.runs.signals import stop_request
from experiments.training import distributed
from experiments.training.optimisation import learning_rate, make_optimizer
from experiments.training.probes import watch_summed_inputs
from experiments.training.step import make_step


class DivergedError(Exception):
    """The loss or the gradient is not finite. `step` is the last step that was applied."""

    def __init__(self, step: int, what: str):
        super().__init__(f"{what} is not finite after step {step}")
        self.step = step


def budget(settings: Trainer, steps_per_epoch: int, batch_size: int) -> int:
    """The number of steps: from steps, epochs or examples, whichever is given, else 1000."""
    if settings.epochs is not None:
        return settings.epochs * steps_per_epoch
    if settings.examples is not None:
        return max(1, settings.examples // batch_size)
    return settings.steps or 1000


def must_be_finite(value: float, step: int, what: str) -> float:
    if not math.isfinite(value):
        raise DivergedError(step, what)
    return value


def fit(model: nn.Module, task, optim: Adam | SGD, settings: Trainer, recorder) -> dict:
    """Train to the budget, from the recorder's checkpoint if there is one.

    task: see tasks.py; recorder: see recorder.py, which takes the rows and the checkpoints. A row has step, examples,
    seconds (of training steps alone) and metrics named split/metric.
    Returns counts and validation metrics, last and best. Raises DivergedError before a non-finite step is applied, and
    Interrupted, with a checkpoint saved, at the first step after a request to stop.
    """
    optimizer = make_optimizer(model, optim)
    steps = budget(settings, task.steps_per_epoch, task.batch_size)
    evaluate_at = {round(steps * (k + 1) / settings.evaluations) for k in range(settings.evaluations)}
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "best": math.inf, "best_step": 0, "train": {}, "val": {}}
    state["losses"] = []  # of the steps since the last row
    state |= recorder.restore(model, optimizer)
    losses = state["losses"]
    advance = make_step(model, task, optimizer, optim.clip, settings)
    saved = time.monotonic()

    while (step := state["step"]) < steps:
        started = time.perf_counter()
        row: dict[str, Any] = {}
        stopping = distributed.asked_to_stop()
        logged = (step + 1) % settings.log_every == 0 or step + 1 in evaluate_at
        watched = settings.statistics and logged
        if not model.training:  # an evaluation is over
            model.train()
        lr = learning_rate(optim, step, steps, task.batch_size)
        with watch_summed_inputs(model, row, active=watched):
            results = advance(task.batch(step), lr, wait=logged or stopping, row=row if watched else None)
        step = state["step"] = step + 1
        for at, (loss, norm) in enumerate(results, start=step - len(results)):
            losses.append(must_be_finite(loss, at, "the training loss"))
            must_be_finite(norm, at, "the gradient")
        state["seconds"] += time.perf_counter() - started

        if results:
            recorder.progress(step, steps, state["seconds"], losses[-1], state["val"])
        if logged:
            mean = task.metrics(sum(losses) / len(losses))
            losses.clear()
            state["train"] = {f"train/{name}": value for name, value in mean.items()}
            row |= {"step": step, "examples": step * task.batch_size, "seconds": state["seconds"], "train/lr": lr}
            row |= state["train"]
            if optim.clip is not None:
                row["train/grad_norm"] = norm
            if step in evaluate_at:
                state["val"] = {f"val/{name}": value for name, value in task.evaluate(model, "val").items()}
                row |= state["val"]
                if must_be_finite(row["val/loss"], step, "the validation loss") < state["best"]:
                    state |= {"best": row["val/loss"], "best_step": step}
            recorder.log(row)
        if stopping or (logged and time.monotonic() - saved >= settings.checkpoint_every):
            recorder.save(model, optimizer, state)
            saved = time.monotonic()
        if stopping and step < steps:
            stop_request.check()

    recorder.save(model, optimizer, state)
    return {
        "steps": steps,
        "examples": steps * task.batch_size,
        "epochs": steps / task.steps_per_epoch,
        "seconds": state["seconds"],
        "best_val/loss": state["best"],
        "best_val/step": state["best_step"],
        **state["train"],
        **state["val"],
    }
