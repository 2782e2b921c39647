"""Choose the learning rate of every cell of an experiment, on seeds and a split of their own.

python -m experiments.tune experiment=recurrent_gain profile=quick
python -m experiments.tune experiment=recurrent_gain hydra/launcher=joblib    with a run on every core

Runs the experiment's grid with stage=tune over its tune_seeds and tune_lr, the same rates for every cell, and writes
configs/experiment/<name>/tuned/<profile>.yaml beside the rows that chose it. The rate with the lowest mean over the
seeds is taken, of the metric that will decide, on the validation split; a rate at which a seed diverged is out. The
test split is never looked at. A rate chosen at the end of the grid is reported: widen tune_lr and run again, what is
done is not repeated.
"""

import subprocess
import sys

import hydra
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.cell import cell_key
from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS, tuned_path
from experiments.judging.tuning import choose, tuning_metric
from experiments.runs.rows import cell_columns, collect
from experiments.sweeps.grid import run_ids

OF_TUNING = {  # what it sets itself, and what to give in its place
    "optim.lr": "experiment.tune_lr=[...]",
    "seed": "experiment.tune_seeds=[...]",
    "stage": "no stage",
    "trainer.evaluations": "no number of evaluations",
}


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
def tune(cfg: DictConfig) -> None:
    with refusals_in_one_line():
        name, profile = cfg.experiment.name, cfg.profile.name
        lrs, seeds = list(cfg.experiment.tune_lr), cfg.experiment.tune_seeds
        if not lrs:
            raise ConfigError("nothing to tune; name an experiment with tune_lr, as experiment=recurrent_gain")
        metric, given = tuning_metric(cfg.experiment), list(HydraConfig.get().overrides.task)
        for argument in given:
            if (key := argument.partition("=")[0]) in OF_TUNING:
                raise ConfigError(f"{argument}: tuning sets {key} itself; give {OF_TUNING[key]}")
        launcher = f"hydra/launcher={HydraConfig.get().runtime.choices['hydra/launcher']}"
        grid = ["stage=tune", "trainer.evaluations=1"]  # the last value chooses; no other is looked at
        grid += [f"optim.lr={','.join(map(str, lrs))}", f"seed={','.join(map(str, seeds))}"]
        sweep = subprocess.run([sys.executable, "-m", "experiments.train", "-m", *given, *grid, launcher])
        if sweep.returncode:
            sys.exit(sweep.returncode)  # the sweep has said why
        if cfg.plan:
            return
        rows, _, missing = collect(run_ids(name, profile, [*given, *grid]), cfg.runs_dir)
        if missing:
            raise ConfigError(f"{len(missing)} tuning runs are not finished; run the command again to finish them")
        write(rows, cfg, lrs, metric)


def write(rows: pd.DataFrame, cfg: DictConfig, lrs: list[float], metric: str) -> None:
    """The choice as YAML, the rows that made it as CSV beside it."""
    experiment, profile = cfg.experiment.name, cfg.profile.name
    path = tuned_path(profile, experiment)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = cell_columns(cfg.experiment.axes)
    means = choose(rows, columns, metric)
    commits = ", ".join(sorted(set(rows["git"].str[:12] + rows["dirty"].map({True: "-dirty", False: ""}))))
    lines = [
        f"# Chosen by: python -m experiments.tune experiment={experiment} profile={profile}",
        f"# at commit {commits}; the rows that chose are in {path.stem}.csv. Not edited by hand.",
    ]
    edge = []
    for values, row in means.iterrows():
        key = cell_key(dict(zip(columns, values, strict=True)))
        lines.append(f"{key}: {row['chosen']:g}")
        if row["chosen"] in (min(lrs), max(lrs)):
            edge.append(f"{key} at {row['chosen']:g}")
    path.write_text("\n".join(lines) + "\n")
    rows.to_csv(path.with_suffix(".csv"), index=False)
    print(means.to_string())
    print(f"wrote {path}")
    if edge:
        print(f"at the end of the grid, widen tune_lr and run again: {'; '.join(edge)}")


def main() -> None:
    command(tune, "train")


if __name__ == "__main__":
    main()
