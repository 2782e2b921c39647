"""Search settings with Optuna: python -m scripts.search model=lstm norm=ln trainer.steps=300

The arguments are those of experiments.train. A trial is a run of stage=tune in results/runs: it resumes like any other,
is not trained twice, is valued on the validation split and never reads the test split. Started again, a search goes on.
Needs pip install -c constraints.txt -e '.[experiments,search]', and no account.

The experiments that are judged do not search: their rates come from one grid, the same for all rivals.
"""

import os
import sys

import optuna
from hydra import compose

from experiments.cli.command import refusals_in_one_line
from experiments.cli.compose import hydra_configs
from experiments.config.paths import ROOT
from experiments.runs.folder import RunStatus
from experiments.runs.run import Run
from experiments.runs.signals import stop_request
from experiments.training.check import check, check_fields
from experiments.training.run import train_run

TRIALS = int(os.environ.get("TRIALS", "20"))


def run_of(trial: optuna.Trial, arguments: list[str]) -> Run:
    """Return the trial's run: what is searched for, and where, stands here."""
    found = [
        f"optim.lr={trial.suggest_float('optim.lr', 1e-3, 1e-1, log=True):.3g}",
        f"optim.schedule={trial.suggest_categorical('optim.schedule', ['constant', 'cosine'])}",
    ]
    with refusals_in_one_line():
        with hydra_configs():
            cfg = compose("train", [*arguments, "stage=tune", *found])
        check_fields(cfg)
        run = Run.of(cfg)
        check(run)
    return run


def objective(trial: optuna.Trial, arguments: list[str]) -> float:
    """Train the trial's run; return its loss on the validation split. A diverged or failed run is a pruned trial."""
    run = run_of(trial, arguments)
    with stop_request.on_signals():
        outcome = train_run(run)
    if outcome["status"] == RunStatus.INTERRUPTED:
        raise KeyboardInterrupt
    summary = run.folder.summary  # of a run that was finished before, too
    if summary is None or summary["status"] != RunStatus.DONE:
        raise optuna.TrialPruned(f"{outcome['status']}: {outcome['message']}")
    return summary["val/loss"]


def main(arguments: list[str]) -> None:
    os.chdir(ROOT)
    (ROOT / "results").mkdir(exist_ok=True)
    study = optuna.create_study(
        study_name=" ".join(sorted(arguments)) or "defaults",
        storage="sqlite:///results/search.db",
        load_if_exists=True,
    )
    tried = len([trial for trial in study.trials if trial.state.is_finished()])
    study.sampler = optuna.samplers.TPESampler(seed=tried)  # with one seed a search that goes on would begin again
    study.optimize(lambda trial: objective(trial, arguments), n_trials=max(TRIALS - tried, 0))
    best = " ".join(f"{name}={value}" for name, value in study.best_params.items())
    print(f"best of {len(study.trials)}: val/loss {study.best_value:.4f} with {best}")


if __name__ == "__main__":
    main(sys.argv[1:])
