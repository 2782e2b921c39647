"""Train one run, or with -m a sweep.

python -m experiments.train model=lstm norm=ln data=python_docs trainer.steps=50
python -m experiments.train -m model=rnn,lstm,gru norm=none,bn,ln seed=0,1
python -m experiments.train -m experiment=recurrent_gain hydra/launcher=joblib
python -m experiments.train experiment=recurrent_gain plan=true
"""

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from experiments.check import check
from experiments.cli import CONFIGS, command, refusals_in_one_line
from experiments.config import run_id, settings
from experiments.interruption import stop_request
from experiments.mirror import WandbMirror
from experiments.progress import ProgressDisplay
from experiments.run_folder import RunFolder

PLAN = {f"plan={yes}" for yes in ("true", "True", "TRUE", "yes", "on", "1")}  # what OmegaConf reads as true


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="train")
def train(cfg: DictConfig) -> dict | None:
    """A single run; in a sweep, what the launcher calls for every run, in whatever process."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from experiments.run import run

        return run(cfg)
    return single(cfg)


def single(cfg: DictConfig) -> None:
    """One run with its progress; exits with 1 when it failed or trains elsewhere, as the signal says after one."""
    with refusals_in_one_line():
        folder = RunFolder(cfg.runs_dir, run_id(cfg))
        if folder.finished:
            print(f"already {folder.status['status']}: {folder.path}")
            if "WANDB_SWEEP_ID" in os.environ:  # its agent waits for the metrics
                mirror = WandbMirror(settings(cfg.wandb), folder, OmegaConf.to_container(cfg, resolve=True))
                mirror.finish(folder.summary, exit_code=0)
            return
        check(cfg)
    from experiments.run import run

    with ProgressDisplay([folder]):
        outcome = run(cfg)
    print(f"{outcome['status']}: {outcome['path']}")
    if outcome["status"] == "interrupted":
        print("the same command goes on from the checkpoint", file=sys.stderr)
        sys.exit(stop_request.exit_code)
    if outcome["status"] in ("failed", "running elsewhere"):
        sys.exit(outcome["message"] + ("; see error.txt there" if outcome["status"] == "failed" else ""))


def main() -> None:
    if PLAN & set(sys.argv) and not {"-m", "--multirun"} & set(sys.argv):
        sys.argv.insert(1, "-m")  # a plan is of the experiment's whole grid
    command(train, "train")


if __name__ == "__main__":
    main()
