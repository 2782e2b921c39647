"""Train one run, or with -m a sweep.

python -m experiments.train model=lstm norm=ln data=python_docs trainer.steps=50  one run
python -m experiments.train -m model=rnn,lstm,gru norm=none,bn,ln seed=0,1        all 18 combinations
python -m experiments.train -m experiment=recurrent_gain hydra/launcher=joblib    an experiment's runs, one a core
python -m experiments.train experiment=recurrent_gain plan=true                   its runs, what is done, the time left
torchrun --nproc_per_node=2 -m experiments.train model=cnn norm=bn data=digits    one run in two processes

A run has a folder below runs_dir, named after its configuration. Started again, the same command goes on from where it
was stopped, and leaves out what is done.
"""

import os
import sys
from contextlib import nullcontext
from typing import cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.paths import CONFIGS
from experiments.config.schema import settings
from experiments.runs.identity import run_id
from experiments.runs.signals import stop_request
from experiments.runs.torchrun import num_ranks, rank
from experiments.training import no_effect

# What trains and shows is imported when a run starts: --help and tab completion come through here too.

PLAN = {f"plan={yes}" for yes in ("true", "True", "TRUE", "yes", "on", "1")}  # what OmegaConf reads as true


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="train")
def train(cfg: DictConfig) -> dict | None:
    """A single run; in a sweep, what the launcher calls for every run, in whatever process."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from experiments.training.run import run

        return run(cfg)
    single(cfg)
    return None


def single(cfg: DictConfig) -> None:
    """One run with its progress; exits with 1 when it failed or trains elsewhere, as the signal says after one."""
    from experiments.runs.folder import RunFolder
    from experiments.runs.progress import ProgressDisplay, Watched
    from experiments.training.check import check, check_fields

    with refusals_in_one_line():
        check_fields(cfg)
        folder = RunFolder(cfg.runs_dir, run_id(cfg))
        if folder.finished and num_ranks() == 1:  # the ranks of one run ask it together
            print(f"already {folder.status['status']}: {folder.path}")
            if "WANDB_SWEEP_ID" in os.environ:  # its agent waits for the metrics
                from experiments.runs.wandb_mirror import WandbMirror

                config = cast(dict, OmegaConf.to_container(cfg, resolve=True))
                WandbMirror(settings(cfg.wandb), folder, config).finish(folder.summary or {}, exit_code=0)
            return
        check(cfg)
    first = rank() == 0  # the one that speaks
    if first:
        no_effect.warn(HydraConfig.get().overrides.task, [cfg])
    from experiments.training.run import run

    with ProgressDisplay([Watched(folder, cfg.data.batch_size)], quiet=cfg.quiet) if first else nullcontext():
        outcome = run(cfg)
    if first:
        print(f"{outcome['status']}: {outcome['path']}")
    if outcome["status"] == "interrupted":
        if first:
            print("the same command goes on from the checkpoint", file=sys.stderr)
        sys.exit(stop_request.exit_code)
    if outcome["status"] in ("failed", "running elsewhere"):
        sys.exit(outcome["message"] + ("; see error.txt there" if outcome["status"] == "failed" else ""))


def main() -> None:
    if PLAN & set(sys.argv) and not {"-m", "--multirun"} & set(sys.argv):
        sys.argv.insert(1, "-m")  # a plan is of the experiment's whole grid
    command(train, "train", sweeps=True)


if __name__ == "__main__":
    main()
