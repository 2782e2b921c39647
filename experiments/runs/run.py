"""One run: its configuration in every form that training needs, made once and handed down."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.config.cell import cell
from experiments.config.schema import SGD, Adam, Trainer, Wandb, settings
from experiments.runs.folder import RunFolder
from experiments.runs.identity import device_name, run_names


@dataclass(frozen=True)
class Settings:
    """The sections of a configuration that training reads, as the dataclasses that they are declared as.

    `experiment` is left out: its claims take longer to convert than all of these, which a sweep would pay in every run.
    """

    model: Any  # a dataclass of models.settings
    norm: dict[str, Any]  # name and options
    data: Any  # a dataclass of data.settings
    optim: Adam | SGD
    trainer: Trainer
    wandb: Wandb


@dataclass(frozen=True)
class Run:
    """A run that can be trained or loaded. Cheap to make: a sweep makes one for every job."""

    cfg: DictConfig
    id: str  # name of the folder, id in wandb, key of the row
    device: str  # cpu, cuda or mps
    columns: dict[str, Any]  # of its cell: model, norm, batch_size and the experiment's axes
    folder: RunFolder

    @classmethod
    def of(cls, cfg: DictConfig) -> "Run":
        """Return the run of a configuration that check_fields has accepted. Raises ConfigError without its device."""
        device = device_name(cfg)
        run_id, without_fields = run_names(cfg, device)
        folder, begun = (RunFolder(cfg.runs_dir, name) for name in (run_id, without_fields))
        if begun.path.exists() and not folder.path.exists():
            folder = begun
        return cls(cfg, folder.run_id, device, cell(cfg), folder)

    @classmethod
    def stored(cls, folder: RunFolder, cfg: DictConfig) -> "Run":
        """Return the run that wrote a folder, to be loaded on the CPU; its data and device need not be here."""
        return cls(cfg, folder.run_id, "cpu", cell(cfg), folder)

    @cached_property
    def settings(self) -> Settings:
        """The typed settings, converted when they are first read: a plan of many runs does without."""
        norm: Any = OmegaConf.to_container(self.cfg.norm, resolve=True)
        sections = {name: settings(self.cfg[name]) for name in ("model", "data", "optim", "trainer", "wandb")}
        return Settings(norm=norm, **sections)
