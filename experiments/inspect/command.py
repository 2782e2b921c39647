"""Pictures of what is inside trained networks, side by side on the same axes.

python -m experiments.inspect run=train-lstm                     all runs whose name starts so: none, bn, ln ...
python -m experiments.inspect run=[train-lstm-none,train-lstm-ln] output=pictures

Draws, each as SVG and PNG: activations; of an LSTM or GRU the saturation of its gates (Karpathy et al. 2015); of a
recurrent network the gradients through time at the start and after training (Cooijmans et al. 2016, figure 1); and,
where the runs logged them (trainer.statistics=true), mean and std of the summed inputs over training. Runs that differ
in their seed alone are drawn as one. All but the last are of the last checkpoint.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.paths import CONFIGS
from experiments.config.schema import RUNS_DIR
from experiments.inspect.cells import cells_of
from experiments.runs.folder import RunFolder
from experiments.runs.outputs import check_output, written_as_one
from experiments.training.load import Trained, find_all, load


@dataclass
class Inspect:
    run: Any = field(
        default=None,
        metadata={"help": "a run's name in runs_dir, a prefix that several share, a folder, or a list of these"},
    )
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    output: str | None = field(
        default=None,
        metadata={
            "help": "folder of the pictures; null: inspect/ in the run's folder, of several runs one beside runs_dir"
        },
    )
    online: bool = field(
        default=False,
        metadata={"help": "also upload the pictures of runs that were online; runs of others may name any account"},
    )


ConfigStore.instance().store(name="inspect_schema", node=Inspect)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="inspect")
def inspect(cfg: DictConfig) -> None:
    with refusals_in_one_line("inspect"):
        runs = [load(folder) for folder in run_folders(cfg)]
        cells = cells_of(runs)
        name = runs[0].folder.run_id if len(runs) == 1 else common_name(runs)
        output = Path(cfg.output or default_output(runs, cfg.runs_dir, name))
        known_by = None if cfg.output else "activations.svg"  # a folder of the runs is ours, also from older versions
        check_output(output, ())
        from experiments.inspect.draw import save
        from experiments.inspect.pictures import draw_all

        pictures = draw_all(cells)
        with written_as_one(output, known_by) as folder:
            saved = {picture: save(figure, folder / picture) for picture, figure in pictures.items()}
    paths = {picture: [output / path.name for path in both] for picture, both in saved.items()}
    for svg, png in paths.values():
        print(f"{svg} {png}")
    from experiments.inspect.wandb_media import log_pictures

    log_pictures({picture: png for picture, (_, png) in paths.items()}, runs, name, output, cfg.online)


def run_folders(cfg: DictConfig) -> list[RunFolder]:
    """Return the folders of all runs that `run` names, each once. Raises ConfigError for a name without a run."""
    names = cfg.run if OmegaConf.is_list(cfg.run) else [cfg.run]
    folders = [folder for name in names or [None] for folder in find_all(name and str(name), cfg.runs_dir)]
    return list({folder.path: folder for folder in folders}.values())


def default_output(runs: list[Trained], runs_dir: str, name: str) -> Path:
    """Return the folder of the pictures: in that of a single run, beside `runs_dir` for several."""
    if len(runs) == 1:
        return runs[0].folder.path / "inspect"
    return Path(runs_dir).parent / "inspect" / name


def common_name(runs: list[Trained]) -> str:
    """Return what the runs' names begin with."""
    parts = zip(*(run.folder.run_id.split("-") for run in runs), strict=False)
    return "-".join(part[0] for part in itertools.takewhile(lambda part: len(set(part)) == 1, parts)) or "runs"


def main() -> None:
    command(inspect, "inspect")
