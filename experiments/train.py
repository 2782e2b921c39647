"""Train one run, or with -m a sweep.

python -m experiments.train model=lstm norm=ln data=python_docs trainer.steps=50  one run
python -m experiments.train -m model=rnn,lstm,gru norm=none,bn,ln seed=0,1        all 18 combinations
python -m experiments.train -m experiment=recurrent_gain hydra/launcher=joblib    an experiment's runs, one a core
python -m experiments.train experiment=recurrent_gain plan=true                   its runs, what is done, the time left
python -m experiments.train run=recurrent_gain-lstm-ln-schedulecosine-python_docs  a committed row once more, by its id
torchrun --nproc_per_node=2 -m experiments.train model=cnn norm=bn data=digits    one run in two processes

A run has a folder below runs_dir, named after its configuration. Started again, the same command goes on from where it
was stopped, and leaves out what is done.
"""

import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS
from experiments.config.schema import settings
from experiments.runs.run import Run
from experiments.runs.signals import stop_request
from experiments.runs.torchrun import num_ranks, rank
from experiments.training import no_effect

if TYPE_CHECKING:
    from experiments.training.run import Outcome

# Modules that train and display are imported when a run starts: --help and tab completion import this one too.

PLAN = {f"plan={yes}" for yes in ("true", "True", "TRUE", "yes", "on", "1")}  # what OmegaConf reads as true
MULTIRUN = {"-m", "--multirun"}


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
def train(cfg: DictConfig) -> "Outcome | None":
    """Train a single run; in a sweep, the function that the launcher calls for every run, in whatever process."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from experiments.training.run import train_run

        with stop_request.on_signals():  # from the first moment: the request outlives the block
            run = Run.of(cfg)
        return train_run(run)
    train_single(cfg)
    return None


def train_single(cfg: DictConfig) -> None:
    """Train one run and show its progress. Exit code: 0 done, 1 failed or running elsewhere, 128 + n after signal n."""
    from experiments.training.check import check, check_fields, warn_of_unknown_words

    with refusals_in_one_line():
        if cfg.plan:
            raise ConfigError("a plan is of a whole grid; write it as plan=true")
        check_fields(cfg)
        if cfg.known is not None:
            raise ConfigError(
                f"known={cfg.known} leaves runs out of a sweep, and this is one run; add -m, or leave it out"
            )
        if cfg.experiment.claims:
            from experiments.judging.claims import check_claims

            check_claims(settings(cfg.experiment))
        run = Run.of(cfg)
        if run.folder.finished and num_ranks() == 1:  # with several, rank 0 decides for all
            report_finished(run)
            return
        check(run)
    if rank() == 0:
        no_effect.warn(HydraConfig.get().overrides.task, [cfg])
        warn_of_unknown_words([run])
    outcome = train_with_display(run)
    exit_with(outcome)


def report_finished(run: Run) -> None:
    """Print that the run is finished. In a wandb sweep, log it too: the sweep's agent waits for its metrics."""
    print(f"already {run.folder.status['status']}: {run.folder.path}")
    run.folder.warn_if_changed()
    if "WANDB_SWEEP_ID" in os.environ:
        from experiments.runs.wandb_mirror import WandbMirror

        config: Any = OmegaConf.to_container(run.cfg, resolve=True)
        WandbMirror(run.settings.wandb, run.folder, config).finish(run.folder.summary or {}, exit_code=0)


def train_with_display(run: Run) -> "Outcome":
    """Train the run; rank 0 shows its progress."""
    from experiments.runs.progress import ProgressDisplay, Watched
    from experiments.training.run import train_run

    watched = [Watched(run.folder, run.cfg.data.batch_size)]
    with ProgressDisplay(watched, quiet=run.cfg.quiet) if rank() == 0 else nullcontext():
        return train_run(run)


def exit_with(outcome: "Outcome") -> None:
    """Let rank 0 print the outcome of a run, and exit with its code unless that is 0."""
    from experiments.runs.folder import RunStatus

    status, message = outcome["status"], outcome["message"]
    if rank() == 0:
        print(f"{status}: {outcome['path']}")
        if status == RunStatus.INTERRUPTED:
            print("the same command goes on from the checkpoint", file=sys.stderr)
    if status == RunStatus.INTERRUPTED:
        sys.exit(stop_request.exit_code)
    if status == RunStatus.RUNNING_ELSEWHERE:
        sys.exit(message)
    if status == RunStatus.FAILED:
        sys.exit(f"{message}; see error.txt there")


def main() -> None:
    if any(argument.startswith("run=") for argument in sys.argv[1:]):
        from experiments.cli.typed_paths import typed_paths
        from experiments.sweeps.again import again

        with refusals_in_one_line():
            sys.argv[1:] = again(typed_paths(sys.argv[1:]))
    arguments = set(sys.argv[1:])
    if arguments & PLAN and not arguments & MULTIRUN:
        sys.argv.insert(
            1, "--multirun"
        )  # a plan is of the whole grid, which Hydra gives to the sweeper in this mode only
    command(train, "train", sweeps=True)


if __name__ == "__main__":
    main()
