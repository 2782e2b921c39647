"""A wandb run beside metrics.jsonl: offline unless asked, and unable to stop, slow or hang training.

metrics.jsonl is the truth, and a run in wandb is made from it: it starts with the rows that wandb does not have yet. So
what wandb has of a run has no gap and no row twice, after a kill, a resume or an upload. wandb's own step is the step
of training, which tells how far a run on the server has come.
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
from experiments.runs.folder import RunFolder, read_json, write_json

PATIENCE = 10  # seconds that an unreachable server may hold up the start of a run ...
PAUSE = 600  # ... and seconds before another run of the process asks it again
AXES = ("step", "examples", "seconds")


class WandbMirror:
    """Whatever befalls wandb, training goes on: one line says so, and the mirror is offline or dropped."""

    asks_from = -math.inf  # on the monotonic clock, for all runs of the process

    def __init__(self, settings: Wandb, folder: RunFolder, config: dict):
        self.run = None
        if settings.mode != "disabled":
            self._guarded(self._start, settings, folder, config)

    def log(self, row: dict) -> None:
        if self.run is not None:
            self._guarded(log, self.run, row)

    def finish(self, summary: dict, exit_code: int) -> None:
        if self.run is not None:
            self._guarded(finish, self.run, summary, exit_code)

    def _guarded(self, call, *arguments) -> None:
        try:
            call(*arguments)
        except Exception as error:  # a mirror has no failure that is worth a run
            print(f"wandb is given up for this run ({first_line(error)}); metrics.jsonl has it all", file=sys.stderr)
            self.run = None
            let_go()

    def _start(self, settings: Wandb, folder: RunFolder, config: dict) -> None:
        if settings.mode == "online" and time.monotonic() >= WandbMirror.asks_from:
            try:
                self.run = start(settings, folder, config)
                return
            except Exception as error:
                print(f"wandb is not reachable ({first_line(error)}); logging offline", file=sys.stderr)
                WandbMirror.asks_from = time.monotonic() + PAUSE
        self.run = start(Wandb("offline", settings.project, settings.entity), folder, config)


def ready(mode: Any):
    """The wandb module, set to a mode. Raises ConnectionError where it lacks a key to go online."""
    # wandb's telemetry goes out in offline mode too, and holds the end of the process for 10 to 20 s on a network that
    # swallows packets.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    wandb.setup(wandb.Settings(mode=mode, silent=True))  # silent: else login asks the server for the name to greet
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        raise ConnectionError("no key on this machine; wandb login stores one")
    return wandb


def start(settings: Wandb, folder: RunFolder, config: dict, place: str | None = None, patience: float = 15):
    """A wandb.Run that has the folder's rows. Raises what wandb raises when it cannot be had.

    config: as in the folder's config.yaml; place: where wandb's own files go, by default the folder; patience: seconds
    that the end of the run waits for a server.
    """
    wandb = ready(settings.mode)
    known = identity(folder)
    tags = [f"{choice}:{config[choice]['name']}" for choice in ("profile", "model", "norm")]
    try:
        run = wandb.init(
            mode=settings.mode,
            project=settings.project,
            entity=settings.entity,
            dir=place or folder.path,
            id=known["id"],
            name=folder.run_id,
            group=config["experiment"]["name"],
            job_type=config["stage"],
            tags=[*tags, *(claim["id"] for claim in config["experiment"]["claims"])],
            config=config | {"cell": labels(config)},
            resume="allow" if settings.mode == "online" else None,
            reinit="create_new",  # else a run that was given up would be handed out in place of the next one
            settings=wandb.Settings(
                # Without these two, an unreachable server holds the start for 90 s and the end for ever.
                init_timeout=PATIENCE,
                finish_timeout=patience,
                sweep_id=known.get("sweep"),
                # Console capture, system probes and a copy of the requirements cost more than the run's rows.
                **{"console": "off", "disable_git": True, "disable_code": True},
                **{"x_disable_stats": True, "x_disable_meta": True, "x_save_requirements": False},
            ),
        )
    except Exception:
        let_go()  # the attempt still holds the run's id
        raise
    for axis in AXES:
        run.define_metric(axis)
    run.define_metric("*", step_metric="step")
    for row in folder.metrics():
        log(run, row)
    return run


def let_go() -> None:
    """End wandb's own process, with whatever it holds; the next run starts another."""
    with suppress(Exception, SystemExit):  # it exits as that process did
        import wandb

        wandb.teardown()


def log(run, row: dict) -> None:
    if row["step"] >= run.starting_step:  # the server has the others
        run.log(row, step=row["step"], commit=True)


def finish(run, summary: dict, exit_code: int) -> None:
    # A number, so that a panel can add it up over the runs of a cell.
    run.summary.update({**summary, "diverged": int(summary["status"] == "diverged")})
    run.finish(exit_code=exit_code)


def labels(config: dict) -> dict:
    """The run's normaliser, and what else its cell's name says (lstm/b32/arm=steps): what panels group by."""
    place = cell_key(cell(OmegaConf.create(config))).split("/")
    return {"norm": place.pop(1), "place": "/".join(place)}


def identity(folder: RunFolder) -> dict:
    """The run's id in wandb, and its project and entity where these are not the configuration's.

    The id is the folder's name; in a run that the agent of a wandb sweep started, the agent's, kept in wandb.json.
    """
    if "WANDB_SWEEP_ID" in os.environ and "WANDB_RUN_ID" in os.environ:
        names = {"id": "RUN_ID", "sweep": "SWEEP_ID", "project": "PROJECT", "entity": "ENTITY"}
        known = {key: os.environ.get(f"WANDB_{name}") for key, name in names.items()}
        write_json(folder.path / "wandb.json", known)
        return known
    return read_json(folder.path / "wandb.json") or {"id": folder.run_id}
