"""What the loop writes to: rows to metrics.jsonl and wandb, checkpoints and progress to the run folder."""

import sys
from typing import Any

import torch
from torch import nn

from experiments.config import Wandb
from experiments.run_folder import RunFolder


class WandbMirror:
    """A wandb run beside metrics.jsonl. Whatever befalls it, training goes on: one line says so, and it is dropped."""

    def __init__(self, settings: Wandb, folder: RunFolder, config: dict, resuming: bool):
        self.run: Any = None
        if settings.mode != "disabled":
            self._guarded(self._start, settings, folder, config, resuming)

    def log(self, row: dict) -> None:
        if self.run is not None:
            self._guarded(self.run.log, row)

    def finish(self, summary: dict, exit_code: int) -> None:
        if self.run is not None:
            self._guarded(self.run.summary.update, summary)
            self._guarded(self.run.finish, exit_code=exit_code)

    def _guarded(self, call, *arguments, **named) -> None:
        try:
            call(*arguments, **named)
        except Exception as error:  # a mirror has no failure that is worth a run
            print(f"wandb is given up for this run ({first_line(error)}); metrics.jsonl has it all", file=sys.stderr)
            self.run = None

    def _start(self, settings: Wandb, folder: RunFolder, config: dict, resuming: bool) -> None:
        import wandb

        # Console capture, system probes and a copy of the requirements per run cost more than the run's rows.
        quiet: dict[str, Any] = {"console": "off", "silent": True, "disable_git": True, "disable_code": True}
        quiet |= {"x_disable_stats": True, "x_disable_meta": True, "x_save_requirements": False}
        claims = [claim["id"] for claim in config["experiment"]["claims"]]
        arguments: dict[str, Any] = {
            "project": settings.project,
            "entity": settings.entity,
            "dir": folder.path,
            "id": folder.run_id,
            "name": folder.run_id,
            "group": config["experiment"]["name"],
            "job_type": config["stage"],
            "tags": [f"model:{config['model']['name']}", f"norm:{config['norm']['name']}", *claims],
            "config": config,
            "resume": "allow" if resuming and settings.mode == "online" else None,
            # Without these two, an unreachable server holds the start for 90 s and the end for ever.
            "settings": wandb.Settings(init_timeout=10, finish_timeout=15, **quiet),
        }
        try:
            if settings.mode == "online" and not wandb.login(prompt=False):
                raise ConnectionError("no key on this machine; wandb login stores one")
            self.run = wandb.init(**arguments, mode=settings.mode)  # type: ignore[arg-type]
        except Exception as error:
            if settings.mode != "online":
                raise
            print(f"wandb is not reachable ({first_line(error)}); logging offline", file=sys.stderr)
            wandb.teardown()  # the attempt still holds the run's id
            self.run = wandb.init(mode="offline", **{**arguments, "resume": None})
        for axis in ("step", "examples", "seconds"):
            self.run.define_metric(axis)
        self.run.define_metric("*", step_metric="step")


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Recorder:
    """Rows, checkpoints and progress of one run. metrics.jsonl is written first and is the truth."""

    def __init__(self, folder: RunFolder, wandb_settings: Wandb, config: dict, device: str):
        self.folder, self.device = folder, device
        self.checkpoint = folder.load_checkpoint(device)
        folder.truncate_metrics(self.checkpoint["state"]["step"] if self.checkpoint else 0)
        self.mirror = WandbMirror(wandb_settings, folder, config, resuming=self.checkpoint is not None)

    def log(self, row: dict) -> None:
        self.folder.append(row)
        self.mirror.log(row)

    def progress(self, step: int, steps: int, seconds: float, loss: float, val: dict) -> None:
        self.folder.heartbeat(step=step, steps=steps, seconds=seconds, loss=loss, val=val)

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict) -> None:
        generators = {"cpu": torch.get_rng_state()}
        if self.device != "cpu":
            generators[self.device] = getattr(torch, self.device).get_rng_state()
        self.folder.save_checkpoint(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "state": state,
                "generators": generators,
            }
        )

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
        """Bring model, optimiser and generators to the checkpoint; returns the loop's state there, {} without one."""
        if self.checkpoint is None:
            return {}
        model.load_state_dict(self.checkpoint["model"])
        optimizer.load_state_dict(self.checkpoint["optimizer"])
        # map_location moves the generators' states too; they have to lie on the CPU
        torch.set_rng_state(self.checkpoint["generators"]["cpu"].cpu())
        if self.device in ("cuda", "mps"):
            getattr(torch, self.device).set_rng_state(self.checkpoint["generators"][self.device].cpu())
        return self.checkpoint["state"]
