"""A run looked at again: its folder found, and from it the configuration, the model with its weights, the data.

Imports torch only when a model is loaded, so that a run that is not there is told at once.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import data
from experiments.cli.compose import hydra_configs
from experiments.config.errors import ConfigError, nearest
from experiments.config.schema import norm_options, settings
from experiments.runs.folder import RunFolder, read_json

if TYPE_CHECKING:
    from torch import nn

    from experiments.training.tasks import Classification, LanguageModelling


UNITS = {"char": "character", "word": "word", "pixel": "pixel"}  # a text's symbols, to be read


@dataclass(frozen=True)
class Trained:
    """A run at its last checkpoint."""

    folder: RunFolder
    cfg: DictConfig
    manifest: dict  # of the data that it was trained on (data.Text, data.Images)
    input_shape: tuple[int, ...]  # (C, H, W) of an image, () for text
    num_classes: int
    vocabulary: list[str]  # of a text; empty for images
    step: int  # that the checkpoint was made after
    model: Any  # an nn.Module of models/, in evaluation mode, on the CPU

    def __str__(self) -> str:
        return f"{self.folder.run_id}: {self.folder.state}, weights of step {self.step}"

    def task(self) -> "LanguageModelling | Classification":
        """What was learnt, with the data. Raises data.DataError, and ConfigError where the data are others now."""
        from experiments.training.tasks import make_task

        return make_task(_content(self.cfg, self.manifest), settings(self.cfg.data), self.cfg.seed, "cpu")

    def at_start(self) -> Any:
        """The model before its first step: the seed gives the same initial weights again."""
        import torch

        torch.manual_seed(self.cfg.seed)
        return _build(self.cfg, self.input_shape, self.num_classes).eval()


# --- finding ----------------------------------------------------------------------------------------------------------


def find(run: str | None, runs_dir: str) -> RunFolder:
    """The one run that `run` names: a folder, a run's name in `runs_dir`, or the start of one.

    Raises ConfigError when there is none, or more than one.
    """
    found = find_all(run, runs_dir)
    if len(found) > 1:
        names = f"{found[0].run_id} and {found[-1].run_id}"
        raise ConfigError(f"run={run} is the start of {len(found)} runs, as {names}; give more of the name")
    return found[0]


def find_all(run: str | None, runs_dir: str) -> list[RunFolder]:
    """As `find`, and every run whose name starts so."""
    path = Path(run or "").absolute()
    if run and (path / "config.yaml").is_file():
        return [RunFolder(path.parent, path.name)]
    names = sorted(folder.parent.name for folder in Path(runs_dir).glob("*/config.yaml"))
    if not names:
        raise ConfigError(
            f"there is no run in {runs_dir}; train one, as python -m experiments.train model=lstm, or name its folder"
        )
    if not run:
        raise ConfigError(f"run= is missing; name one of the {len(names)} runs in {runs_dir}, as run={names[-1]}")
    found = [run] if run in names else [name for name in names if name.startswith(run)]
    if not found:
        raise ConfigError(
            f"run={run} is neither a run's folder nor the name of one of the {len(names)} runs in {runs_dir}, or its "
            f"start; nearest: {nearest(run, names)}"
        )
    return [RunFolder(runs_dir, name) for name in found]


# --- loading ----------------------------------------------------------------------------------------------------------


def load(folder: RunFolder) -> Trained:
    """The run at its last checkpoint, whether or not it is finished.

    The data are not read where the run's own record tells what the model needs of them: all but the words of a text.
    Raises ConfigError for a folder without a whole checkpoint or of another version of the code, and data.DataError.
    """
    cfg = _configuration(folder)
    manifest = (read_json(folder.path / "environment.json") or {}).get("data", {})
    checkpoint = folder.load_checkpoint("cpu")
    if checkpoint is None:
        raise ConfigError(_no_checkpoint(folder))
    input_shape, num_classes, vocabulary = _sizes(cfg, manifest)
    model = _build(cfg, input_shape, num_classes)
    try:
        model.load_state_dict(checkpoint["model"])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(
            f"{folder.path}: the checkpoint is not of the model in config.yaml ({reason}); look at it with the commit "
            "in environment.json"
        ) from None
    return Trained(
        folder, cfg, manifest, input_shape, num_classes, vocabulary, checkpoint["state"]["step"], model.eval()
    )


def _configuration(folder: RunFolder) -> DictConfig:
    """The run's config.yaml, with the types that the fields have."""
    path = folder.path / "config.yaml"
    try:
        plain: Any = OmegaConf.load(path)
        typed: Any = OmegaConf.merge(defaults(plain), plain)
        return typed
    except (yaml.YAMLError, OmegaConfBaseException, AttributeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"{path} cannot be read as a configuration ({reason}); look at the run with the commit in environment.json"
        ) from None


def defaults(cfg: DictConfig) -> DictConfig:
    """The configuration with the same choices of groups and no field set."""
    return _composed(*(f"{group}={cfg[group].name}" for group in ("model", "norm", "data", "optim")))


@functools.cache
def _composed(*choices: str) -> DictConfig:
    with hydra_configs():
        cfg = compose("train", list(choices))
    OmegaConf.set_struct(cfg.experiment, False)  # whose axes are keys of its own
    return cfg


def _no_checkpoint(folder: RunFolder) -> str:
    state = folder.state
    if (folder.path / "last.pt").exists():
        remedy = "delete the folder and train it again" if folder.finished else "the command that began it starts anew"
        return f"{folder.path}: no checkpoint is whole; {remedy}"
    if state == "diverged":
        return f"{folder.path}: {folder.status.get('message', state)}, before its first checkpoint; choose another run"
    return f"{folder.path}: no checkpoint yet ({state}); the command that began it goes on with it"


def _sizes(cfg: DictConfig, manifest: dict) -> tuple[tuple[int, ...], int, list[str]]:
    """Shape of an input, number of classes, vocabulary."""
    if "shape" in manifest:
        return tuple(manifest["shape"]), manifest["classes"], []
    if "vocabulary" in manifest:
        return (), len(manifest["vocabulary"]), manifest["vocabulary"]
    content = _content(cfg, manifest)
    if isinstance(content, data.Text):
        return (), len(content.vocabulary), content.vocabulary
    return tuple(content.images["train"].shape[1:]), content.num_classes, []


def _content(cfg: DictConfig, manifest: dict) -> data.Text | data.Images:
    """The data, which must be those that the run was trained on."""
    content = data.load(settings(cfg.data))
    then, now = ([source["sha256"] for source in record.get("sources", ())] for record in (manifest, content.manifest))
    if then != now:
        raise ConfigError(
            f"data={cfg.data.name} is not what the run was trained on: sha256 {', '.join(s[:12] for s in now)}, then "
            f"{', '.join(s[:12] for s in then) or 'unknown'}; bring the data of then, or train the run again"
        )
    return content


def _build(cfg: DictConfig, input_shape: tuple[int, ...], num_classes: int) -> "nn.Module":
    from models.build import build
    from models.create_norm import NormLayer

    return build(settings(cfg.model), input_shape, num_classes, NormLayer(cfg.norm.name, norm_options(cfg)))
