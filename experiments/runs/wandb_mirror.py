"""A wandb run beside metrics.jsonl: offline unless asked, and unable to stop, slow or hang training.

metrics.jsonl is the truth, and a run in wandb is made from it: it starts with the rows that wandb does not have yet. So
the run in wandb has no gap and no row twice, after a kill, a resume or an upload. wandb's own step is the step of
training, which shows how far a run on the server has come.
"""

import math
import os
import sys
import time
from contextlib import suppress
from typing import Any

from omegaconf import OmegaConf

from experiments.config.cell import cell, cell_key
from experiments.config.errors import first_line
from experiments.config.schema import Wandb
from experiments.runs.folder import RunFolder, RunStatus, write_json
from experiments.runs.records import read_wandb_ids

PATIENCE = 10  # seconds that an unreachable server may delay the start of a run
RETRY_AFTER = 600  # seconds before another run of the process tries an unreachable server again
AXES = ("step", "examples", "seconds")


class WandbMirror:
    """Whatever happens to wandb, training goes on: one line reports it, and the mirror is offline or dropped."""

    online_from = -math.inf  # monotonic time before which no run of the process tries the server

    def __init__(self, settings: Wandb, folder: RunFolder, config: dict):
        self.run = None
        if settings.mode != "disabled":
            self._guarded(self._start, settings, folder, config)

    def log(self, row: dict) -> None:
        if self.run is not None:
            self._guarded(log_row, self.run, row)

    def finish(self, summary: dict, exit_code: int) -> None:
        if self.run is not None:
            self._guarded(finish_run, self.run, summary, exit_code)

    def _guarded(self, call, *arguments) -> None:
        try:
            call(*arguments)
        except Exception as error:  # no failure of the mirror is worth a run
            print(f"wandb is given up for this run ({first_line(error)}); metrics.jsonl has it all", file=sys.stderr)
            self.run = None
            stop_service()

    def _start(self, settings: Wandb, folder: RunFolder, config: dict) -> None:
        if settings.mode == "online" and time.monotonic() >= WandbMirror.online_from:
            try:
                self.run = start_run(settings, folder, config)
                return
            except Exception as error:
                print(f"wandb is not reachable ({first_line(error)}); logging offline", file=sys.stderr)
                WandbMirror.online_from = time.monotonic() + RETRY_AFTER
        self.run = start_run(Wandb("offline", settings.project, settings.entity), folder, config)


def set_up_wandb(mode: Any):
    """Import wandb, set it to a mode and return it. Raises ConnectionError where it lacks a key to go online."""
    # wandb's telemetry goes out in offline mode too, and delays the end of the process by 10 to 20 s on a network that
    # swallows packets.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    wandb.setup(wandb.Settings(mode=mode, silent=True))  # silent: else login asks the server for the name to greet
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        raise ConnectionError("no key on this machine; wandb login stores one")
    return wandb


def start_run(settings: Wandb, folder: RunFolder, config: dict, wandb_dir: str | None = None, patience: float = 15):
    """Start a wandb.Run with the folder's rows and return it. Raises what wandb raises when it cannot start one.

    config: as in the folder's config.yaml. wandb_dir: where wandb's own files go, by default the folder. patience:
    seconds that the end of the run waits for a server.
    """
    wandb = set_up_wandb(settings.mode)
    ids = wandb_ids(folder)
    tags = [f"{choice}:{config[choice]['name']}" for choice in ("profile", "model", "norm")]
    try:
        run = wandb.init(
            mode=settings.mode,
            project=settings.project,
            entity=settings.entity,
            dir=wandb_dir or folder.path,
            id=ids["id"],
            name=folder.run_id,
            group=config["experiment"]["name"],
            job_type=config["stage"],
            tags=[*tags, *(claim["id"] for claim in config["experiment"]["claims"])],
            config=config | {"cell": labels(config)},
            resume="allow" if settings.mode == "online" else None,
            reinit="create_new",  # else a run that was given up would be handed out in place of the next one
            settings=_settings(wandb, ids.get("sweep"), patience),
        )
    except Exception:
        stop_service()  # the attempt still holds the run's id
        raise
    for axis in AXES:
        run.define_metric(axis)
    run.define_metric("*", step_metric="step")
    for row in folder.metrics():
        log_row(run, row)
    return run


def _settings(wandb, sweep_id: str | None, patience: float):
    return wandb.Settings(
        # Without these two, an unreachable server holds up the start for 90 s and the end for ever.
        init_timeout=PATIENCE,
        finish_timeout=patience,
        sweep_id=sweep_id,
        # Console capture, system probes and a copy of the requirements cost more than the run's rows.
        **{"console": "off", "disable_git": True, "disable_code": True},
        **{"x_disable_stats": True, "x_disable_meta": True, "x_save_requirements": False},
    )


def stop_service() -> None:
    """End wandb's own process, with whatever it holds; the next run starts another."""
    with suppress(Exception, SystemExit):  # it exits as that process did
        import wandb

        wandb.teardown()


def log_row(run, row: dict) -> None:
    """Log a row unless the server has it already."""
    if row["step"] >= run.starting_step:
        run.log(row, step=row["step"], commit=True)


def finish_run(run, summary: dict, exit_code: int) -> None:
    """Give a wandb.Run its summary and end it."""
    status = str(summary["status"])
    # A number, so that a panel can add it up over the runs of a cell.
    run.summary.update({**summary, "status": status, "diverged": int(status == RunStatus.DIVERGED)})
    run.finish(exit_code=exit_code)


def labels(config: dict) -> dict:
    """Return what panels group by: the normaliser, and the rest of the cell's name (lstm/b32/arm=steps)."""
    parts = cell_key(cell(OmegaConf.create(config))).split("/")
    norm = parts.pop(1)
    return {"norm": norm, "place": "/".join(parts)}


def wandb_ids(folder: RunFolder) -> dict:
    """Return the run's id in wandb, and its sweep, project and entity where these are not the configuration's.

    The id is the folder's name; in a run that the agent of a wandb sweep started, the agent's, kept in wandb.json.
    """
    if "WANDB_SWEEP_ID" in os.environ and "WANDB_RUN_ID" in os.environ:
        variables = {"id": "RUN_ID", "sweep": "SWEEP_ID", "project": "PROJECT", "entity": "ENTITY"}
        ids = {key: os.environ.get(f"WANDB_{name}") for key, name in variables.items()}
        write_json(folder.path / "wandb.json", ids)
        return ids
    return read_wandb_ids(folder.path / "wandb.json") or {"id": folder.run_id}
