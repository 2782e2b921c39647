"""Pictures as media in Weights & Biases."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.config.schema import settings
from experiments.report.style import norms_of
from experiments.runs.folder import RunFolder
from experiments.runs.wandb_mirror import WandbMirror
from experiments.training.load import Trained


def log_pictures(pictures: dict[str, Path], runs: list[Trained], name: str, output: Path, online: bool) -> None:
    """Log PNGs in a wandb run of their own, in the mode of the first run of training, but offline unless `online`.

    The runs of training stay as they are: several may share a picture, and an offline run cannot be continued, only
    logged again under its id.
    """
    wandb_settings = settings(runs[0].cfg.wandb)
    if wandb_settings.mode == "disabled":
        return
    if not online:
        wandb_settings = replace(wandb_settings, mode="offline")
    folder = RunFolder(output, f"{name}-inspect")
    folder.path.mkdir(exist_ok=True)
    config: Any = OmegaConf.to_container(runs[0].cfg, resolve=True)
    config |= {"stage": "inspect", "norm": {"name": ",".join(norms_of(run.cfg.norm.name for run in runs))}}
    mirror = WandbMirror(wandb_settings, folder, config)
    if mirror.run is None:
        return
    import wandb  # set up by the mirror

    media: dict[str, Any] = {f"inspect/{picture}": wandb.Image(str(path)) for picture, path in pictures.items()}
    mirror.log(media | {"step": mirror.run.starting_step})  # the next, if the server has pictures already
    mirror.finish({"status": "done"}, exit_code=0)
