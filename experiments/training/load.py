"""Find and load a trained run: from its folder the configuration, the model with its weights, the data.

Imports torch only when a model is loaded, so that an error about a missing run comes at once.
"""

import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import data
from experiments.cli.compose import hydra_configs
from experiments.config.errors import ConfigError, first_line, nearest
from experiments.runs.folder import RunFolder, RunStatus
from experiments.runs.records import DamagedFileError, read_config, read_environment
from experiments.runs.run import Run

if TYPE_CHECKING:
    from experiments.training.tasks import DataTask


UNITS = {"char": "character", "word": "word", "pixel": "pixel"}  # the symbols of a text, in words


@dataclass(frozen=True)
class Trained:
    """A run at its last checkpoint."""

    folder: RunFolder
    cfg: DictConfig
    manifest: dict  # of the training data (data.Text, data.Images)
    input_shape: tuple[int, ...]  # (C, H, W) of an image, () for text, (K, T) of K sentences, (symbols, Q, P)
    num_classes: int
    vocabulary: list[str]  # of a text, of sentences or questions; empty for images
    step: int  # steps done at the checkpoint
    model: Any  # an nn.Module of models/, in evaluation mode, on the CPU

    def __str__(self) -> str:
        return f"{self.folder.run_id}: {self.folder.state}, weights of step {self.step}"

    @functools.cached_property
    def run(self) -> Run:
        return Run.stored(self.folder, self.cfg)

    def task(self) -> "DataTask":
        """Return the task, with its data. Raises data.DataError, and ConfigError where the data have changed."""
        from experiments.training.tasks import make_task

        return make_task(_content(self.run, self.manifest), self.run.settings.data, self.cfg.seed, "cpu")

    def at_start(self) -> Any:
        """Return the model before its first step: the seed gives the same initial weights again."""
        import torch

        from experiments.training.model import build_model

        torch.manual_seed(self.cfg.seed)
        return build_model(self.run, self.input_shape, self.num_classes).eval()


# --- Finding ----------------------------------------------------------------------------------------------------------


def find(run: str | None, runs_dir: str) -> RunFolder:
    """Return the one run that `run` names: a folder, a run's name in `runs_dir`, or the first letters of one.

    Raises ConfigError when there is none, or more than one.
    """
    folders = find_all(run, runs_dir)
    if len(folders) > 1:
        names = f"{folders[0].run_id} and {folders[-1].run_id}"
        raise ConfigError(f"run={run} is the start of {len(folders)} runs, as {names}; give more of the name")
    return folders[0]


def find_all(run: str | None, runs_dir: str) -> list[RunFolder]:
    """Return every run that `run` names, as in `find`. Raises ConfigError when there is none."""
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
    matching = [run] if run in names else [name for name in names if name.startswith(run)]
    if not matching:
        starts = {name[: len(run)]: name for name in names}
        raise ConfigError(
            f"run={run} is neither a run's folder nor the name of one of the {len(names)} runs in {runs_dir}, or its "
            f"start; nearest: {starts[nearest(run, starts)]}"
        )
    return [RunFolder(runs_dir, name) for name in matching]


# --- Loading ----------------------------------------------------------------------------------------------------------


def load(folder: RunFolder) -> Trained:
    """Return the run at its last checkpoint, whether or not it is finished.

    The data are read only where the run's manifest lacks what is needed of them: the words of a text or of questions.
    Raises ConfigError for a folder without a whole checkpoint or of another version of the code, and data.DataError.
    """
    from experiments.training.model import build_model

    cfg = _configuration(folder)
    if folder.changed:
        print(f"{folder.path}: {folder.changed}", file=sys.stderr)
    try:
        manifest = (read_environment(folder.path / "environment.json") or {}).get("data", {})
    except DamagedFileError as error:
        raise ConfigError(f"{folder.path}: {error}; choose another run") from None
    checkpoint = folder.load_checkpoint("cpu")
    if checkpoint is None:
        raise ConfigError(_no_checkpoint(folder))
    run = Run.stored(folder, cfg)
    input_shape, num_classes, vocabulary = _sizes(run, manifest)
    try:
        model = build_model(run, input_shape, num_classes)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{folder.path}: config.yaml describes no network that can be built ({first_line(error)}); choose another"
        ) from None
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
    """Return the run's config.yaml, with the declared types of its fields. Raises ConfigError."""
    path = folder.path / "config.yaml"
    try:
        plain: Any = OmegaConf.create(read_config(path))
        typed: Any = OmegaConf.merge(defaults(plain), plain)
        return typed
    except (DamagedFileError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"{path} cannot be read as a configuration ({first_line(error)}); look at the run with the commit in "
            "environment.json"
        ) from None


def defaults(cfg: DictConfig) -> DictConfig:
    """Return the configuration with the same choices of groups and no field set."""
    return _composed(*(f"{group}={cfg[group].name}" for group in ("model", "norm", "data", "optim")))


@functools.cache
def _composed(*choices: str) -> DictConfig:
    with hydra_configs():
        cfg = compose("train", list(choices))
    OmegaConf.set_struct(cfg.experiment, False)  # an experiment names its axes itself
    return cfg


def _no_checkpoint(folder: RunFolder) -> str:
    state = folder.state
    if (folder.path / "last.pt").exists():
        remedy = "delete the folder and train it again" if folder.finished else "the command that began it starts anew"
        return f"{folder.path}: no checkpoint is whole; {remedy}"
    if state == RunStatus.DIVERGED:
        return f"{folder.path}: {folder.status.get('message', state)}, before its first checkpoint; choose another run"
    return f"{folder.path}: no checkpoint yet ({state}); the command that began it goes on with it"


def _sizes(run: Run, manifest: dict) -> tuple[tuple[int, ...], int, list[str]]:
    """Return the shape of an input, the number of classes, the vocabulary."""
    if "shape" in manifest and run.cfg.model.kind != "cloze":
        return tuple(manifest["shape"]), manifest["classes"], []
    if "vocabulary" in manifest:
        return (), len(manifest["vocabulary"]), manifest["vocabulary"]
    content = _content(run, manifest)
    if isinstance(content, data.Text):
        return (), len(content.vocabulary), content.vocabulary
    if isinstance(content, data.Cloze):
        return tuple(content.manifest["shape"]), content.manifest["classes"], content.vocabulary
    if isinstance(content, data.Sentences):
        return (3, content.sentences["train"].shape[1]), len(content.vocabulary), content.vocabulary
    if isinstance(content, data.Pairs):
        return (2, content.sentences["train"].shape[2]), len(content.vocabulary), content.vocabulary
    return tuple(content.manifest["shape"]), content.manifest["classes"], []


def _content(run: Run, manifest: dict) -> data.Content:
    """Load the data. Raises ConfigError unless they are those that the run was trained on."""
    content = data.load(run.settings.data)
    trained_on, here = (_checksums(record) for record in (manifest, content.manifest))
    if trained_on != here:
        raise ConfigError(
            f"data={run.cfg.data.name} is not what the run was trained on: sha256 {_shortened(here)}, then "
            f"{_shortened(trained_on) or 'unknown'}; bring the data of then, or train the run again"
        )
    return content


def _checksums(manifest: dict) -> list[str]:
    return [source["sha256"] for source in manifest.get("sources", ())]


def _shortened(checksums: list[str]) -> str:
    return ", ".join(checksum[:12] for checksum in checksums)
