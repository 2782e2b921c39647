"""The recorder of a run: rows go to metrics.jsonl and wandb, checkpoints and progress to the run's folder."""

import torch
from torch import nn

from experiments.config.schema import Wandb
from experiments.runs.folder import RunFolder
from experiments.runs.wandb_mirror import WandbMirror


class FolderRecorder:
    """Records one run in its folder, from its checkpoint on (protocols.Recorder).

    metrics.jsonl is written before wandb: it is the truth.
    """

    def __init__(self, folder: RunFolder, wandb_settings: Wandb, config: dict, device: str):
        self.folder = folder
        self.device = device
        self.checkpoint = folder.load_checkpoint(device)
        folder.truncate_metrics(self.checkpoint["state"]["step"] if self.checkpoint else 0)
        self.mirror = WandbMirror(wandb_settings, folder, config)

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
