"""One run from its configuration to its result: lock, data, model, loop, evaluation, summary, status."""

import errno
import sys
import time
import traceback
from typing import Any, TypedDict

import torch
from omegaconf import OmegaConf
from torch import nn

import data
from experiments.config.errors import first_line
from experiments.runs.environment import ORIGIN, environment, origin_of, processor
from experiments.runs.folder import AlreadyRunningError, RunFolder, RunStatus, write_atomically, write_json
from experiments.runs.run import Run
from experiments.runs.schedule import Schedule, budget
from experiments.runs.signals import Interrupted, stop_request
from experiments.runs.torchrun import num_ranks, rank
from experiments.training import distributed
from experiments.training.loop import DivergedError, fit
from experiments.training.measurements import AT_QUARTERS, MEASUREMENTS
from experiments.training.model import build_model
from experiments.training.recorder import FolderRecorder
from experiments.training.tasks import DataTask, make_task


class Outcome(TypedDict):
    """What came of an attempt to train a run."""

    run_id: str
    path: str
    status: RunStatus
    message: str


def train_run(run: Run) -> Outcome:
    """Train a run that check.py has accepted, unless it is finished.

    Never raises into a sweep: an exception becomes the status "failed", with its traceback in the run's error.txt.
    After SIGTERM or Ctrl-C the run leaves a checkpoint and is "interrupted", and this process starts no other. Two
    exceptions pass: KeyboardInterrupt after a second such signal, and the SystemExit of a scheduler's own handler
    (experiments.runs.signals).
    """
    with stop_request.on_signals():
        outcome = _attempt(run)
    if outcome["status"] == RunStatus.INTERRUPTED:
        stop_request.forward_warning()
    return outcome


def _attempt(run: Run) -> Outcome:
    try:
        stop_request.raise_if_made()
        if rank() > 0:
            return _train_shard(run)
        with run.folder.lock():
            if run.folder.finished:
                distributed.start_ranks(run.device, training=False)
                return _outcome(run, RunStatus.SKIPPED, "already done")
            if run.folder.damage:
                print(f"{run.folder.path}: {run.folder.damage}; the run is started again", file=sys.stderr)
            return _train(run)
    except Interrupted as stop:
        return _outcome(run, RunStatus.INTERRUPTED, f"not started: {stop}")
    except AlreadyRunningError as error:
        return _outcome(run, RunStatus.RUNNING_ELSEWHERE, str(error))
    except OSError as error:  # the folder itself cannot be written: a full disk, no permission
        return _outcome(run, RunStatus.FAILED, f"the run's folder cannot be written: {_reason(error)}")


def _outcome(run: Run, status: RunStatus, message: str = "") -> Outcome:
    return {"run_id": run.id, "path": str(run.folder.path), "status": status, "message": message}


# --- Rank 0: everything but the other shards --------------------------------------------------------------------------


def _train(run: Run) -> Outcome:
    """Train in the folder that this process holds. Status, summary and the mirror's end are written in any case."""
    started = time.monotonic()
    recorder: FolderRecorder | None = None
    run.folder.set_status(RunStatus.RUNNING, step=0)
    try:
        distributed.start_ranks(run.device)
        content, task = _load_task(run)
        _write_configuration(run)
        model = _initial_model(run, task)
        here = _environment(run)
        recorder = _make_recorder(run, task, {name: here[name] for name in ORIGIN}, started)
        earlier = {"earlier": recorder.processes[:-1]} if recorder.processes[1:] else {}
        write_json(run.folder.path / "environment.json", {**here, **earlier, "data": content.manifest})
        result, message = _fit_and_evaluate(run, model, task, recorder)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        summary = {**_row_columns(run), "parameters": parameters, **result}
        summary["wall_seconds"] = recorder.wall_seconds
        summary |= origin_of(recorder.processes)
        write_json(run.folder.path / "summary.json", summary)
        run.folder.finish(summary["status"], message)
        recorder.mirror.finish(summary, exit_code=0)
        return _outcome(run, summary["status"], message)
    except Interrupted as stop:
        return _conclude(run, recorder, RunStatus.INTERRUPTED, str(stop))
    except KeyboardInterrupt as error:
        _write_traceback(run.folder)
        _conclude(run, recorder, RunStatus.INTERRUPTED, _reason(error))
        raise
    except BaseException as error:  # SystemExit too: one run must not end the sweep that it is part of
        _write_traceback(run.folder)
        return _conclude(run, recorder, RunStatus.FAILED, _reason(error))


def _load_task(run: Run) -> tuple[data.Content, DataTask]:
    content = data.load(run.settings.data)
    return content, make_task(content, run.settings.data, run.cfg.seed, run.device)


def _write_configuration(run: Run) -> None:
    """Write config.yaml in place of an earlier attempt's."""
    (run.folder.path / "error.txt").unlink(missing_ok=True)
    config = OmegaConf.to_yaml(run.cfg, resolve=True).encode()
    write_atomically(run.folder.path / "config.yaml", lambda file: file.write(config))


def _environment(run: Run) -> dict[str, Any]:
    """Return what this process adds to the configuration: commit, versions, device, threads."""
    here = {**environment(), "device": run.device, "processor": processor(run.device)}
    return here | {"threads": run.cfg.threads, "ranks": num_ranks()}


def _initial_model(run: Run, task: DataTask) -> nn.Module:
    """Build the model before its first step: the seed sets its weights."""
    torch.set_num_threads(run.cfg.threads)
    torch.manual_seed(run.cfg.seed)
    return build_model(run, task.input_shape, task.num_classes).to(run.device)


def _make_recorder(run: Run, task: DataTask, process: dict, started: float) -> FolderRecorder:
    config: Any = OmegaConf.to_container(run.cfg, resolve=True)
    steps = budget(run.settings.trainer, task.steps_per_epoch, task.batch_size)
    schedule = Schedule.of(run.settings.trainer, steps)
    return FolderRecorder(run.folder, run.settings.wandb, config, run.device, schedule, process, started)


def _fit_and_evaluate(
    run: Run, model: nn.Module, task: DataTask, recorder: FolderRecorder
) -> tuple[dict[str, Any], str]:
    """Train, evaluate and measure; return the result's columns and a message for the progress line."""
    rank_task, rank_recorder = distributed.shard(task, recorder)
    settings, final = run.settings.trainer, run.cfg.stage == "final"
    at_quarters = [AT_QUARTERS[name] for name in settings.measure if name in AT_QUARTERS and final]
    measures = [lambda model, measure=measure: measure(model, task) for measure in at_quarters]
    try:
        result = fit(model, rank_task, run.settings.optim, settings, rank_recorder, measures)
    except DivergedError as error:  # a result, without metrics
        return {"diverged_at": error.step, "status": RunStatus.DIVERGED}, str(error)
    distributed.end_ranks()
    if final:
        result |= {f"test/{name}": value for name, value in task.evaluate(model, "test").items()}
    for name in settings.measure:
        if name in MEASUREMENTS:
            result |= MEASUREMENTS[name](model, task)
    return {**result, "status": RunStatus.DONE}, _headline(result)


def _conclude(run: Run, recorder: FolderRecorder | None, status: RunStatus, message: str) -> Outcome:
    """Write the status of a run without a result, with how far it came, and end the mirror."""
    last = run.folder.status
    progress = {key: last[key] for key in ("step", "steps", "seconds") if key in last}
    run.folder.set_status(status, message=message, **progress)
    if recorder is not None:
        recorder.mirror.finish({"status": status}, exit_code=1)
    return _outcome(run, status, message)


def _write_traceback(folder: RunFolder) -> None:
    text = traceback.format_exc().encode()
    write_atomically(folder.path / "error.txt", lambda file: file.write(text))


def _reason(error: BaseException) -> str:
    """Return the first line of an error; of a full disk, with the remedy."""
    reason = first_line(error)
    disk_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"{reason}; make room and start again" if disk_full else reason


def _headline(result: dict[str, Any]) -> str:
    """Return the metric that a reader asks for first, and the time, for the progress line."""
    metrics = ("val/bpc", "val/ppl", "val/nll", "val/bound", "val/rsum", "val/accuracy", "val/loss")
    first = next(name for name in metrics if name in result)
    return f"{first} {result[first]:.4g}, {result['seconds']:.1f} s of training"


def _row_columns(run: Run) -> dict[str, Any]:
    """Return the columns by which a row is found."""
    return {
        "run_id": run.id,
        "experiment": run.cfg.experiment.name,
        "profile": run.cfg.profile.name,
        "stage": run.cfg.stage,
        **run.columns,
        "data": run.cfg.data.name,
        "lr": run.cfg.optim.lr,
        "seed": run.cfg.seed,
    }


# --- The other ranks --------------------------------------------------------------------------------------------------


def _train_shard(run: Run) -> Outcome:
    """Make the steps of a rank above 0: the same loop on its shards, with nothing written."""
    if not distributed.start_ranks(run.device):
        return _outcome(run, RunStatus.SKIPPED)
    _, task = _load_task(run)
    model = _initial_model(run, task)
    rank_task, rank_recorder = distributed.shard(task, distributed.SilentRecorder())
    try:
        fit(model, rank_task, run.settings.optim, run.settings.trainer, rank_recorder)
    except DivergedError:
        return _outcome(run, RunStatus.DIVERGED)
    except Interrupted as stop:
        return _outcome(run, RunStatus.INTERRUPTED, str(stop))
    return _outcome(run, RunStatus.DONE)
