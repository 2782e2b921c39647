"""Upload runs to Weights & Biases from their folders: config.yaml, metrics.jsonl and summary.json.

A run counts as uploaded when the server shows all its rows and its end; uploaded.json in its folder then records that,
so that an upload can be repeated at no cost.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.config.errors import ConfigError, first_line
from experiments.config.schema import Wandb
from experiments.runs.folder import FINISHED, AlreadyRunningError, RunFolder, write_json
from experiments.runs.records import read_config, read_upload
from experiments.runs.wandb_mirror import PATIENCE, finish_run, set_up_wandb, start_run, wandb_ids

RECORD = "uploaded.json"
UPLOADED, ALREADY, IN_TRAINING, FAILED = "uploaded", "already uploaded", "in training", "failed"  # outcomes of a run


@dataclass(frozen=True)
class Destination:
    """Where runs are uploaded to, and how long that may take."""

    api: Any  # wandb.Api
    project: str | None  # null: the one that each run was logged for
    entity: str | None  # null: the run's own, else the account of the key
    timeout: float  # seconds that one run's upload may take, and as many again until the server shows it
    scratch: str  # folder of wandb's own files

    def path(self, config: dict, ids: dict) -> tuple[str, str, str]:
        """Return entity, project and id of a run. ids: those of `wandb_mirror.wandb_ids`."""
        entity = self.entity or ids.get("entity") or config["wandb"]["entity"] or self.api.default_entity
        project = self.project or ids.get("project") or config["wandb"]["project"]
        return entity, project, ids["id"]


def connect() -> Any:
    """Return the server's public API. Raises ConfigError without a key, ConnectionError if the server is silent."""
    try:
        wandb = set_up_wandb("online")
    except ConnectionError as error:
        raise ConfigError(f"nothing is uploaded: {error}") from None
    try:
        return wandb.Api(timeout=PATIENCE)
    except Exception as error:
        raise ConnectionError(f"nothing is uploaded, the server does not answer: {first_line(error)}") from None


def run_folders(runs_dir: str) -> list[RunFolder]:
    """Return the folders of all runs that were started. Raises ConfigError if there is none."""
    paths = sorted(path.parent for path in Path(runs_dir).glob("*/config.yaml"))
    if not paths:
        raise ConfigError(f"runs_dir={runs_dir} holds no run; name the folder that was runs_dir in training")
    return [RunFolder(path.parent, path.name) for path in paths]


def upload_all(folders: list[RunFolder], destination: Destination) -> Iterator[tuple[RunFolder, str, str]]:
    """Yield each run with its outcome and a detail. Stops after a failure if the server no longer answers."""
    for folder in folders:
        try:
            outcome, detail = upload(folder, destination)
        except AlreadyRunningError:
            outcome, detail = IN_TRAINING, ""
        except Exception as error:
            outcome, detail = FAILED, first_line(error)
        yield folder, outcome, detail
        if outcome == FAILED and not server_answers():
            return


def server_answers() -> bool:
    """Check the server and the key. Asked after a failure, so that an outage does not cost its time run by run."""
    import wandb

    try:
        wandb.Api(timeout=PATIENCE)
    except Exception:
        return False
    return True


def upload(folder: RunFolder, destination: Destination) -> tuple[str, str]:
    """Upload one run unless the server has it; return the outcome and a detail.

    Raises AlreadyRunningError for a run in training, TimeoutError if the server does not confirm it in time, and
    whatever wandb raises. Only a run that the server has confirmed is recorded as uploaded.
    """
    config = read_config(folder.path / "config.yaml")
    entity, project, wandb_id = destination.path(config, wandb_ids(folder))
    path = f"{entity}/{project}/{wandb_id}"
    state = folder.state  # before the lock is held: a run that died would pass for a running one
    with folder.lock():
        rows = len(folder.metrics())
        summary = folder.summary or {"status": state}
        record = {
            "server": destination.api.settings["base_url"],
            "run": path,
            "rows": rows,
            "status": summary["status"],
        }
        if read_upload(folder.path / RECORD) == record:
            return ALREADY, ""
        if is_complete(destination.api, record):
            write_json(folder.path / RECORD, record)
            return ALREADY, ""
        settings = Wandb("online", project, entity)
        run = start_run(settings, folder, config, destination.scratch, patience=destination.timeout)
        finish_run(run, summary, exit_code=int(summary["status"] not in FINISHED))
        wait_until_complete(destination, record)
        write_json(folder.path / RECORD, record)
        return UPLOADED, f"{rows} rows"


def wait_until_complete(destination: Destination, record: dict) -> None:
    """Ask the server until it shows the run. Raises TimeoutError."""
    deadline = time.monotonic() + destination.timeout
    while not is_complete(destination.api, record):
        if time.monotonic() >= deadline:
            raise TimeoutError(
                f"the server has not confirmed it within {destination.timeout:g} s; run the command again"
            )
        time.sleep(0.5)


def is_complete(api: Any, record: dict) -> bool:
    """Ask whether the server has all rows of the run, and its end."""
    from wandb.errors import CommError

    api.flush()  # else it answers from memory
    try:
        run = api.run(record["run"])
    except CommError as error:
        if isinstance(error.exc, ValueError):  # there is no such run
            return False
        raise
    return run.historyLineCount == record["rows"] and run.summary.get("status") == record["status"]
