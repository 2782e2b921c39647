"""The recorder of a run: rows go to metrics.jsonl and wandb, checkpoints and progress to the run's folder."""

import sys
import time

import torch
from torch import nn

from experiments.config.schema import Wandb
from experiments.runs.folder import RunFolder, checksum, is_of_rows, row_line
from experiments.runs.schedule import Schedule
from experiments.runs.wandb_mirror import WandbMirror


class FolderRecorder:
    """Records one run in its folder, from its checkpoint on (protocols.Recorder).

    metrics.jsonl is written before wandb: it is the truth.
    """

    def __init__(
        self,
        folder: RunFolder,
        wandb_settings: Wandb,
        config: dict,
        device: str,
        schedule: Schedule,
        process: dict,  # commit, versions and processor of this one
        started: float,  # time.monotonic() when this attempt began
    ):
        self.folder = folder
        self.device = device
        self.started = started
        self.checkpoint, rows = resume_point(folder, device, schedule)
        folder.rewrite_metrics(rows)
        earlier = self.checkpoint.get("processes", []) if self.checkpoint else []
        self.processes = [*(one for one in earlier if one != process), process]  # that trained up to here
        self.rows_sha256 = checksum(rows)
        self.mirror = WandbMirror(wandb_settings, folder, config)

    @property
    def wall_seconds(self) -> float:
        """The seconds of this attempt, and of earlier ones up to the checkpoint."""
        earlier = self.checkpoint.get("wall_seconds", 0.0) if self.checkpoint else 0.0
        return earlier + time.monotonic() - self.started

    def log(self, row: dict) -> None:
        self.folder.append(row)
        self.rows_sha256.update(row_line(row))
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
                "processes": self.processes,
                "wall_seconds": self.wall_seconds,
                "rows_sha256": self.rows_sha256.hexdigest(),
            }
        )

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
        """Load the checkpoint into model, optimiser and generators; return the loop's state, {} without one."""
        if self.checkpoint is None:
            return {}
        model.load_state_dict(self.checkpoint["model"])
        optimizer.load_state_dict(self.checkpoint["optimizer"])
        # map_location moved the generators' states too; torch wants them on the CPU.
        torch.set_rng_state(self.checkpoint["generators"]["cpu"].cpu())
        if self.device in ("cuda", "mps"):
            getattr(torch, self.device).set_rng_state(self.checkpoint["generators"][self.device].cpu())
        return self.checkpoint["state"]


def resume_point(folder: RunFolder, device: str, schedule: Schedule) -> tuple[dict | None, list[dict]]:
    """Return the newest checkpoint whose rows are all in metrics.jsonl as they were, and these rows.

    Without one (None, []): a checkpoint does not hold its rows, so they are trained again. A line on stderr says so.
    """
    rows, damage, _ = folder.read_rows()
    lacking = ""
    for checkpoint in folder.checkpoints(device):
        step = checkpoint["state"]["step"]
        kept = [row for row in rows if row["step"] <= step]
        complete = [row["step"] for row in kept] == schedule.logged(step)
        if complete and is_of_rows(checkpoint, kept):
            if lacking:
                print(f"{folder.path}: {lacking}; the run goes on from step {step}", file=sys.stderr)
            return checkpoint, kept
        reason = (
            f"damaged in {damage}" if damage else f"without the rows that the checkpoint of step {step} was saved with"
        )
        lacking = lacking or f"metrics.jsonl is {reason}"
    if lacking:
        print(f"{folder.path}: {lacking}; the run starts anew", file=sys.stderr)
    return None, []
