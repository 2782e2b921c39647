"""Upload runs to Weights & Biases from their folders.

python -m experiments.wandb_sync                                        every run in results/runs
python -m experiments.wandb_sync runs_dir=/scratch/runs project=trial

A run is uploaded from config.yaml, metrics.jsonl and summary.json, which no kill and no full disk damages; the files
that wandb wrote during training are not read, so they may be lost or lack rows. The command can be repeated: a run that
is complete on the server is skipped, and uploaded.json in its folder records that. A run in training is left out; one
that stopped halfway is uploaded as far as it came, and again when it has continued.
"""

import os
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.paths import CONFIGS
from experiments.config.schema import RUNS_DIR
from experiments.runs.folder import RunFolder
from experiments.runs.wandb_upload import ALREADY, FAILED, UPLOADED, Destination, connect, run_folders, upload_all


@dataclass
class Sync:
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    project: str | None = field(
        default=None, metadata={"help": "project that gets the runs; null: the one for which each run was logged"}
    )
    entity: str | None = field(
        default=None,
        metadata={
            "help": "user or team that owns the project; null: the run's, else the account of the key on this machine"
        },
    )
    timeout: float = field(
        default=60.0, metadata={"help": "seconds for one run's upload, and as many again until the server shows it"}
    )


ConfigStore.instance().store(name="wandb_sync_schema", node=Sync)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="wandb_sync")
def sync(cfg: DictConfig) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["WANDB_DIR"] = scratch  # else its API leaves a folder in /tmp for every run that it is asked about
        with refusals_in_one_line("wandb_sync"):
            folders = run_folders(cfg.runs_dir)
            try:
                api = connect()
            except ConnectionError as error:
                sys.exit(str(error))
        complete = print_outcomes(folders, Destination(api, cfg.project, cfg.entity, cfg.timeout, scratch))
    if not complete:
        sys.exit(1)


def print_outcomes(folders: list[RunFolder], destination: Destination) -> bool:
    """Upload the runs; print a line for each that was not yet uploaded, and the counts. Return whether none failed."""
    counts = Counter({UPLOADED: 0, ALREADY: 0, FAILED: 0})
    for number, (folder, outcome, detail) in enumerate(upload_all(folders, destination), start=1):
        counts[outcome] += 1
        if outcome != ALREADY:
            print(f"[{number}/{len(folders)}] {folder.run_id}: {outcome} {detail}".rstrip(), flush=True)
    if untried := len(folders) - counts.total():
        counts["not tried"] = untried
    print(f"{len(folders)} runs: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return not counts[FAILED]


def main() -> None:
    command(sync, "wandb_sync")


if __name__ == "__main__":
    main()
