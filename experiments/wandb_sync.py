"""Upload runs to Weights & Biases from their folders.

python -m experiments.wandb_sync                                        every run in results/runs
python -m experiments.wandb_sync runs_dir=/scratch/runs project=trial

A run is made from config.yaml, metrics.jsonl and summary.json, which no kill and no full disk damages; what wandb wrote
at the time is not looked at, so it may be lost or lack rows. The command can be repeated: a run that the server has
whole is left alone, and uploaded.json in its folder remembers it. A run in training is left out; one that stopped
halfway goes up as far as it came, and again when it has gone on.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError, first_line
from experiments.config.paths import CONFIGS
from experiments.config.schema import RUNS_DIR, Wandb, settings
from experiments.runs.folder import FINISHED, AlreadyRunningError, RunFolder, read_json, write_json
from experiments.runs.wandb_mirror import PATIENCE, finish_run, set_up_wandb, start_run, wandb_ids

MARK = "uploaded.json"


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
        upload_all(settings(cfg), scratch)


def upload_all(asked: Sync, scratch: str) -> None:
    """Every run that is not there, a line each; the last line counts. Exits with 1 when some failed."""
    with refusals_in_one_line("wandb_sync"):
        folders = find(asked.runs_dir)
        api = connect()
    counts = Counter({"uploaded": 0, "there already": 0, "failed": 0})
    for number, folder in enumerate(folders, start=1):
        try:
            outcome, more = bring(folder, asked, api, scratch)
        except AlreadyRunningError:
            outcome, more = "in training", ""
        except Exception as error:
            outcome, more = "failed", first_line(error)
        counts[outcome] += 1
        if outcome != "there already":
            print(f"[{number}/{len(folders)}] {folder.run_id}: {outcome} {more}".rstrip(), flush=True)
        if outcome == "failed" and not answers():
            counts["not tried"] += len(folders) - number
            break
    print(f"{len(folders)} runs: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items()))
    if counts["failed"] or counts["not tried"]:
        sys.exit(1)


def find(runs_dir: str) -> list[RunFolder]:
    """The folders of runs that were started. Raises ConfigError where there is none."""
    found = sorted(path.parent for path in Path(runs_dir).glob("*/config.yaml"))
    if not found:
        raise ConfigError(f"runs_dir={runs_dir} holds no run; name the folder that was runs_dir in training")
    return [RunFolder(path.parent, path.name) for path in found]


def connect():
    """The server's public API. Raises ConfigError without a key; exits where the server does not answer."""
    try:
        wandb = set_up_wandb("online")
    except ConnectionError as error:
        raise ConfigError(f"nothing is uploaded: {error}") from None
    try:
        return wandb.Api(timeout=PATIENCE)
    except Exception as error:
        sys.exit(f"nothing is uploaded, the server does not answer: {first_line(error)}")


def answers() -> bool:
    """Is the server there, and the key good? Asked after a failure, so that an outage does not cost time run by run."""
    import wandb

    try:
        wandb.Api(timeout=PATIENCE)
    except Exception:
        return False
    return True


def bring(folder: RunFolder, asked: Sync, api, scratch: str) -> tuple[str, str]:
    """("uploaded" or "there already", more words). Raises what went wrong; only a confirmed run gets its mark."""
    config = yaml.safe_load((folder.path / "config.yaml").read_text())
    known = wandb_ids(folder)
    project = asked.project or known.get("project") or config["wandb"]["project"]
    entity = asked.entity or known.get("entity") or config["wandb"]["entity"] or api.default_entity
    path = f"{entity}/{project}/{known['id']}"
    state = folder.state
    with folder.lock():
        rows, summary = len(folder.metrics()), folder.summary or {"status": state}
        mark = {"server": api.settings["base_url"], "run": path, "rows": rows, "status": summary["status"]}
        if read_json(folder.path / MARK) == mark:
            return "there already", ""
        if there := is_there(api, path, mark):
            write_json(folder.path / MARK, mark)
            return "there already", ""
        run = start_run(Wandb("online", project, entity), folder, config, scratch, patience=asked.timeout)
        finish_run(run, summary, exit_code=int(summary["status"] not in FINISHED))
        deadline = time.monotonic() + asked.timeout
        while not (there := is_there(api, path, mark)) and time.monotonic() < deadline:
            time.sleep(0.5)
        if not there:
            raise TimeoutError(f"the server has not confirmed it within {asked.timeout:g} s; run the command again")
        write_json(folder.path / MARK, mark)
        return "uploaded", f"{rows} rows"


def is_there(api, path: str, mark: dict) -> bool:
    """Does the server have all rows, and the run's end?"""
    from wandb.errors import CommError

    api.flush()  # else it answers from memory
    try:
        run = api.run(path)
    except CommError as error:
        if isinstance(error.exc, ValueError):  # there is no such run
            return False
        raise
    return run.historyLineCount == mark["rows"] and run.summary.get("status") == mark["status"]


def main() -> None:
    command(sync, "wandb_sync")


if __name__ == "__main__":
    main()
