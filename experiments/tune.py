"""Choose the learning rate of every cell of an experiment, on separate seeds and the validation split.

python -m experiments.tune experiment=recurrent_gain profile=quick
python -m experiments.tune experiment=recurrent_gain hydra/launcher=joblib    with a run on every core

Runs the experiment's grid with stage=tune over its tune_seeds and tune_lr, the same rates for every cell, and writes
configs/experiment/<name>/tuned/<profile>.yaml beside the rows that chose it. The rate with the lowest mean over the
seeds is taken, of the metric that will decide, on the validation split; a rate at which a seed diverged is out. The
test split is never looked at. A rate chosen at the end of the grid is reported: widen tune_lr and run again, what is
done is not repeated. Without the folders of what is done, known=configs/experiment/<name>/tuned/<profile>.csv has it.
"""

import re
import shlex
import subprocess
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS, tuned_path
from experiments.config.schema import settings
from experiments.judging.power import pairs_needed
from experiments.judging.tuning import (
    all_diverged,
    at_chosen_rates,
    at_edge_of_grid,
    choose,
    tuning_metric,
    tuning_overrides,
    write_chosen_rates,
)
from experiments.runs.known import known_rows
from experiments.runs.rows import cell_columns, collect, with_known_rows
from experiments.sweeps.grid import grid_keys, run_ids

NO_RECIPE = ("experiment", "profile", "runs_dir", "known", "wandb", "quiet", "plan")  # arguments that choose no rate


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
def tune(cfg: DictConfig) -> None:
    with refusals_in_one_line():
        typed = list(HydraConfig.get().overrides.task)
        overrides = tuning_overrides(cfg.experiment, typed)
        check_whole_grid(cfg.experiment, typed)
        metric = tuning_metric(cfg.experiment)
        train_all(overrides)
        if cfg.plan:
            return
        ids = run_ids(cfg.experiment.name, cfg.profile.name, overrides)
        rows, _, missing = collect(ids, cfg.runs_dir)
        if cfg.known is not None:
            known = known_rows(cfg.known)
            rows = with_known_rows(rows, known, ids, cfg.experiment.axes)
            missing = [run_id for run_id in missing if run_id not in known]
        if missing:
            raise ConfigError(f"{len(missing)} tuning runs are not finished; run the command again to finish them")

    means = choose(rows, cell_columns(cfg.experiment.axes), metric)
    path = tuned_path(cfg.profile.name, cfg.experiment.name)
    others = [argument for argument in typed if re.split("[.=]", argument)[0] not in NO_RECIPE]
    origin = f"python -m experiments.tune experiment={cfg.experiment.name} profile={cfg.profile.name}"
    origin = shlex.join([*origin.split(), *others])
    needed = pairs_needed(settings(cfg.experiment), at_chosen_rates(rows, means))
    write_chosen_rates(path, rows, means, origin, needed)
    print(means.to_string())
    for claim, pairs in needed.items():
        print(f"{claim}: {pairs} pairs for a power of 80 % of each contrast's t test")
    print(f"wrote {path}")
    if lost := all_diverged(means):
        print(f"diverged at every rate, lower tune_lr and run again: {', '.join(lost)}")
    if edge := at_edge_of_grid(means, list(cfg.experiment.tune_lr)):
        print(f"at the end of the grid, widen tune_lr and run again: {'; '.join(edge)}")


def check_whole_grid(experiment: DictConfig, typed: list[str]) -> None:
    """Refuse arguments that leave cells out: the file holds the rates of all. Raises ConfigError."""
    keys = grid_keys(HydraConfig.get().sweeper.params or {}, experiment.grids)
    for argument in typed:
        if (key := argument.lstrip("+~").partition("=")[0]) in keys:
            raise ConfigError(f"{argument}: tuning writes the rates of every cell of the grid; leave {key} out")


def train_all(overrides: list[str]) -> None:
    """Run the sweep as a command of its own. Exits with its code when it fails, after its own message."""
    launcher = [argument for argument in HydraConfig.get().overrides.hydra if not argument.startswith("hydra.mode")]
    sweep = subprocess.run([sys.executable, "-m", "experiments.train", "-m", *overrides, *launcher])
    if sweep.returncode:
        sys.exit(sweep.returncode)


def main() -> None:
    command(tune, "train")


if __name__ == "__main__":
    main()
