"""Export a trained model: weights as safetensors, what rebuilds the network, and a model card.

python -m experiments.export run=train-lstm-ln output=exported/lstm-ln

Writes model.safetensors (names as in the state dict; a weight-normalised matrix as its g and v), config.json and
README.md, whose example is all that is needed to load the model: the package `layer_normalization` and these files, no
data.
"""

from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS
from experiments.config.schema import RUNS_DIR
from experiments.runs.folder import RunFolder
from experiments.runs.outputs import check_output
from experiments.training.load import find, load

FILES = ("model.safetensors", "config.json", "README.md")


@dataclass
class Export:
    run: str | None = field(
        default=None, metadata={"help": "a run's name in runs_dir, a prefix that no other shares, or its folder"}
    )
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    output: str | None = field(default=None, metadata={"help": "folder into which the three files are written"})


ConfigStore.instance().store(name="export_schema", node=Export)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="export")
def export(cfg: DictConfig) -> None:
    with refusals_in_one_line("export"):
        folder = find(cfg.run, cfg.runs_dir)
        if cfg.output is None:
            raise ConfigError(f"output= is missing; name a folder, as output=exported/{folder.run_id}")
        output = Path(cfg.output)
        check_output(output, FILES)
        check_done(folder)
        trained = load(folder)
        from experiments.inspect.exporting import export_model

        export_model(trained, output)
    print(f"exported: {output.resolve()}")


def check_done(folder: RunFolder) -> None:
    """Raise ConfigError unless the run is done: its card states how good the model is."""
    if folder.finished and folder.state == "done":
        if folder.changed:
            raise ConfigError(
                f"{folder.path}: {folder.changed}, and a model card states what they hold; delete the folder and train "
                "the run again, or choose another"
            )
        return
    remedy = "choose another" if folder.state == "diverged" else "the command that started it continues it"
    raise ConfigError(
        f"{folder.path} is {folder.state}: a model card states how good a model is, so the run must be done; {remedy}"
    )


def main() -> None:
    command(export, "export")


if __name__ == "__main__":
    main()
