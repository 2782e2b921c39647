"""One run from its configuration: lock, data, model, loop, evaluation, summary, status."""

import errno
import time
import traceback
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

import data
from experiments.config.cell import cell
from experiments.config.schema import norm_options, settings
from experiments.runs.environment import environment, processor
from experiments.runs.folder import AlreadyRunningError, RunFolder, write_atomically, write_json
from experiments.runs.identity import device_name, run_id
from experiments.runs.signals import Interrupted, stop_request
from experiments.runs.torchrun import num_ranks, rank
from experiments.training import distributed
from experiments.training.loop import DivergedError, fit
from experiments.training.measurements import invariance, train_test_gap
from experiments.training.recorder import Recorder
from experiments.training.tasks import make_task
from models.build import build
from models.create_norm import NormLayer

MEASUREMENTS = {
    "invariance": lambda model, task: invariance(model, task.images["val"][: task.batch_size]),
    "train_test_gap": train_test_gap,
}


def run(cfg: DictConfig) -> dict:
    """Train one configuration unless that is done; returns {"run_id", "path", "status", "message"}.

    cfg: one that check.py has accepted. Never raises into a sweep: an exception becomes the status "failed"
    with its traceback in the run's error.txt. After SIGTERM or Ctrl-C the run leaves a checkpoint and is "interrupted",
    and this process starts no other. Only a second such signal, KeyboardInterrupt, passes, and the SystemExit of a
    scheduler's own handler (experiments.runs.signals).
    """
    with stop_request.taken():
        outcome = _attempt(cfg, RunFolder(cfg.runs_dir, run_id(cfg)))
    if outcome["status"] == "interrupted":
        stop_request.hand_on()
    return outcome


def _attempt(cfg: DictConfig, folder: RunFolder) -> dict:
    try:
        stop_request.check()
        if rank() > 0:
            return _assist(cfg, folder)
        with folder.lock():
            if folder.finished:
                distributed.join(device_name(cfg), going=False)
                return _report(folder, "skipped", "already done")
            return _train(cfg, folder)
    except Interrupted as stop:
        return _report(folder, "interrupted", f"not started: {stop}")
    except AlreadyRunningError as error:
        return _report(folder, "running elsewhere", str(error))
    except OSError as error:  # the folder itself cannot be written: a full disk, no permission
        return _report(folder, "failed", f"the run's folder cannot be written: {_reason(error)}")


def _report(folder: RunFolder, status: str, message: str = "") -> dict:
    return {"run_id": folder.run_id, "path": str(folder.path), "status": status, "message": message}


def _train(cfg: DictConfig, folder: RunFolder) -> dict:
    began = time.monotonic()
    recorder: Recorder | None = None
    folder.set_status("running", step=0)
    try:
        distributed.join(device := device_name(cfg))
        content = data.load(settings(cfg.data))
        task = make_task(content, settings(cfg.data), cfg.seed, device)
        config: Any = OmegaConf.to_container(cfg, resolve=True)
        (folder.path / "error.txt").unlink(missing_ok=True)
        write_atomically(folder.path / "config.yaml", lambda f: f.write(OmegaConf.to_yaml(cfg, resolve=True).encode()))
        surroundings = {**environment(), "device": device, "processor": processor(device)}
        surroundings |= {"threads": cfg.threads, "ranks": num_ranks()}
        write_json(folder.path / "environment.json", {**surroundings, "data": content.manifest})

        model = _model(cfg, task).to(device)
        recorder = Recorder(folder, settings(cfg.wandb), config, device)
        summary = {**_identity(cfg, folder), "parameters": sum(p.numel() for p in model.parameters())}
        try:
            share, leader = distributed.spread(task, recorder)
            summary |= fit(model, share, settings(cfg.optim), settings(cfg.trainer), leader)
            distributed.leave()
            if cfg.stage == "final":
                summary |= {f"test/{name}": value for name, value in task.evaluate(model, "test").items()}
            for name in cfg.trainer.measure:
                summary |= MEASUREMENTS[name](model, task)
            status, message = "done", _headline(summary)
        except DivergedError as error:
            status, message = "diverged", str(error)
            summary["diverged_at"] = error.step
        summary |= {"status": status, "wall_seconds": time.monotonic() - began}
        summary |= {key: surroundings[key] for key in ("git", "dirty", "torch", "python", "processor")}
        write_json(folder.path / "summary.json", summary)
        folder.set_status(status, message=message)
        recorder.mirror.finish(summary, exit_code=0)
        return _report(folder, status, message)
    except Interrupted as stop:
        folder.set_status("interrupted", message=str(stop), **_progress(folder))
        if recorder is not None:
            recorder.mirror.finish({"status": "interrupted"}, exit_code=1)
        return _report(folder, "interrupted", str(stop))
    except BaseException as error:
        # SystemExit too: one run must not end the sweep that it is part of.
        interrupted = isinstance(error, KeyboardInterrupt)
        write_atomically(folder.path / "error.txt", lambda file: file.write(traceback.format_exc().encode()))
        folder.set_status("interrupted" if interrupted else "failed", message=_reason(error), **_progress(folder))
        if recorder is not None:
            recorder.mirror.finish({"status": "failed"}, exit_code=1)
        if interrupted:
            raise
        return _report(folder, "failed", _reason(error))


def _assist(cfg: DictConfig, folder: RunFolder) -> dict:
    """What a rank beside the first does: the same loop on its share, with nothing written."""
    if not distributed.join(device := device_name(cfg)):
        return _report(folder, "skipped")
    task = make_task(data.load(settings(cfg.data)), settings(cfg.data), cfg.seed, device)
    share, follower = distributed.spread(task, recorder=None)
    try:
        fit(_model(cfg, task).to(device), share, settings(cfg.optim), settings(cfg.trainer), follower)
    except DivergedError:
        return _report(folder, "diverged")
    except Interrupted as stop:
        return _report(folder, "interrupted", str(stop))
    return _report(folder, "done")


def _model(cfg: DictConfig, task) -> torch.nn.Module:
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    return build(settings(cfg.model), task.input_shape, task.num_classes, NormLayer(cfg.norm.name, norm_options(cfg)))


def _reason(error: BaseException) -> str:
    """The first line of what went wrong; of a full disk, what to do as well."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"{reason}; make room and start again" if full else reason


def _progress(folder: RunFolder) -> dict:
    """How far the run had come, as its last status says."""
    status = folder.status
    return {key: status[key] for key in ("step", "steps", "seconds") if key in status}


def _headline(summary: dict) -> str:
    """The last metrics in a few words, for the progress line."""
    shown = ("val/bpc", "val/ppl", "val/nll", "val/accuracy", "val/loss")
    first = next(name for name in shown if name in summary)
    return f"{first} {summary[first]:.4g}, {summary['seconds']:.1f} s of training"


def _identity(cfg: DictConfig, folder: RunFolder) -> dict:
    """The columns by which a row is found."""
    return {
        "run_id": folder.run_id,
        "experiment": cfg.experiment.name,
        "profile": cfg.profile.name,
        "stage": cfg.stage,
        **cell(cfg),
        "data": cfg.data.name,
        "lr": cfg.optim.lr,
        "seed": cfg.seed,
    }
