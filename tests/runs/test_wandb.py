"""Weights & Biases for real: runs, uploads, views and sweeps against a small server, through the commands of a user."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from experiments.cli.compose import hydra_configs
from experiments.config.cell import cell, cell_key
from experiments.report.style import STYLE
from experiments.runs.folder import RunFolder
from experiments.runs.identity import run_id
from experiments.sweeps.grid import expand
from tests.helpers.commands import ROOT, Forked, run, start
from tests.helpers.processes import finish, wait_for
from tests.helpers.wandb_server import ENTITY, WandbServer

TINY = ["model=mlp", "model.hidden_sizes=[16]", "data=digits", "data.batch_size=8", "trainer.evaluations=2"]
SHORT = [*TINY, "trainer.steps=20", "trainer.log_every=5"]
MEDIUM = [*TINY, "trainer.steps=2000", "trainer.log_every=5"]
LONG = [*TINY, "trainer.steps=4000", "trainer.log_every=10", "trainer.checkpoint_every=0.5"]
ONLINE = "wandb.mode=online"


@pytest.fixture
def server():
    """A server; when the test is over, no process may be left that was sent to it."""
    with WandbServer() as server:
        yield server
        assert not [line for line in server.asked if line.startswith("not answered")]
        deadline = time.monotonic() + 10
        while (left := processes(server)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left


def processes(server: WandbServer) -> list[tuple[int, str]]:
    """(pid, command line) of all processes whose wandb was sent to the server."""
    setting = f"WANDB_BASE_URL={server.environment['WANDB_BASE_URL']}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if setting in (process / "environ").read_bytes() and (command := (process / "cmdline").read_text()):
                found.append((int(process.name), command.replace("\0", " ")))
        except OSError:  # it has ended, or is another user's
            continue
    return found


def command(module: str, tmp_path: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"experiments.{module}", *arguments, f"runs_dir={tmp_path / 'runs'}"]


def call(line: list[str], environment: dict) -> subprocess.CompletedProcess:
    """Run a command of a user who is nobody's account: no settings, no key but the one given."""
    nobody = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")} | {"NETRC": "/nowhere"}
    if line[:2] == [sys.executable, "-m"]:
        return run(*line[2:], environment=nobody | environment)
    return subprocess.run(
        line, cwd=ROOT, env=nobody | environment, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )


def train(server: WandbServer, tmp_path: Path, *arguments: str) -> RunFolder:
    result = call(command("train", tmp_path, *arguments), server.environment)
    assert result.returncode == 0, result.stderr
    return folders(tmp_path)[-1]


def begin(server: WandbServer, tmp_path: Path, module: str, *arguments: str) -> Forked:
    runs_dir = f"runs_dir={tmp_path / 'runs'}"
    return start(f"experiments.{module}", *arguments, runs_dir, environment=os.environ | server.environment)


def sync(server: WandbServer, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    return call(command("wandb_sync", tmp_path, *arguments), server.environment)


def folders(tmp_path: Path) -> list[RunFolder]:
    return [RunFolder(path.parent, path.name) for path in sorted(tmp_path.glob("runs/*"))]


def arrived(server: WandbServer) -> int:
    """The number of rows that the server has."""
    return sum(len(run.history) for run in server.runs.values())


def whole(server: WandbServer, folder: RunFolder, name: str | None = None) -> bool:
    """Has the server the run as its folder has it: every row once, in order, with its values, and the summary?

    Not the seconds: rows after the last checkpoint of a killed run are those of the first time.
    """
    run, rows = server.runs[name or folder.run_id], folder.metrics()
    assert run.steps() == [row["step"] for row in rows]
    for theirs, ours in zip(run.history, rows, strict=True):
        measured = ours.keys() - {"seconds"}
        assert {key: theirs[key] for key in measured} == pytest.approx({key: ours[key] for key in measured})
    assert run.summary["val/loss"] == pytest.approx(folder.summary["val/loss"])
    return run.state == "finished" and folder.status["status"] == "done"


def made(tmp_path: Path, *overrides: str, rows: int = 4) -> RunFolder:
    """A finished run's folder, without the training."""
    with hydra_configs():
        from hydra import compose

        cfg = compose("train", [*SHORT, *overrides])
    folder = RunFolder(tmp_path / "runs", run_id(cfg))
    with folder.lock():
        (folder.path / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
        for step in range(5, 5 * rows + 1, 5):
            folder.append({"step": step, "examples": 8 * step, "seconds": step / 1000, "train/loss": 1 / step})
    finish(folder, **{"test/loss": 0.5, "val/loss": 0.6})
    return folder


# --- runs that are online ---------------------------------------------------------------------------------------------


def test_an_online_run_arrives_whole_with_its_group_tags_and_axes(server, tmp_path):
    folder = train(server, tmp_path, *SHORT, "norm=ln", ONLINE)
    run = server.runs[folder.run_id]
    assert whole(server, folder) and run.project == "layer-normalization"
    assert (run.fields["groupName"], run.fields["jobType"]) == ("train", "final")
    assert run.fields["displayName"] == folder.run_id
    assert {"profile:quick", "model:mlp", "norm:ln"} <= set(run.fields["tags"])
    assert run.config["cell"]["value"] == {"place": "mlp/b8", "norm": "ln"}
    assert run.config["optim"]["value"]["lr"] == 0.003
    defined = [metric.get("1") or metric["2"] for metric in run.config["_wandb"]["value"]["m"]]
    assert sorted(defined) == ["*", "examples", "seconds", "step"]
    assert [row["_step"] for row in run.history] == [5, 10, 15, 20]
    assert run.summary["status"] == "done" and run.summary["diverged"] == 0
    assert not [path for path in server.asked if "otel" in path], "wandb's own telemetry was sent"


def test_pictures_of_an_online_run_go_into_a_run_beside_it_as_often_as_they_are_drawn(server, tmp_path):
    folder = train(server, tmp_path, *SHORT, "norm=ln", ONLINE)
    for times in (1, 2):
        result = call(command("inspect", tmp_path, f"run={folder.run_id}", "online=true"), server.environment)
        assert result.returncode == 0, result.stderr
        run = server.runs[f"{folder.run_id}-inspect"]
        assert run.fields["jobType"] == "inspect" and len(run.history) == times
        assert run.history[-1]["inspect/activations"]["path"] in run.files
        assert len([name for name in run.files if name.endswith(".png")]) == times
    assert whole(server, folder)


def test_pictures_of_an_online_run_stay_here_unless_asked(server, tmp_path):
    """It may be a stranger's, whose configuration names an account."""
    folder = train(server, tmp_path, *SHORT, "norm=ln", ONLINE)
    asked = len(server.asked)
    result = call(command("inspect", tmp_path, f"run={folder.run_id}"), server.environment)
    assert result.returncode == 0 and len(server.asked) == asked, result.stderr


@pytest.mark.scorecard("R13", "an online run killed and resumed: no gap, no row twice")
def test_a_killed_online_run_goes_on_under_its_id_without_gap_or_repetition(server, tmp_path, record_property):
    process = begin(server, tmp_path, "train", *LONG, "norm=ln", ONLINE)
    wait_for(lambda: list(tmp_path.glob("runs/*/last.pt")) and arrived(server), process)
    process.kill()
    process.communicate()
    (folder,) = folders(tmp_path)
    assert not folder.finished, "the run ended before it was killed"
    train(server, tmp_path, *LONG, "norm=ln", ONLINE)
    assert whole(server, folder) and list(server.runs) == [folder.run_id]
    record_property("figure", f"{len(folder.metrics())} rows, each once and in order")


@pytest.mark.scorecard("R13", "wandb's server gone in the middle of a run and back: every row arrives once")
def test_a_server_that_goes_and_comes_back_has_every_row(server, tmp_path, record_property):
    process = begin(server, tmp_path, "train", *MEDIUM, "norm=ln", ONLINE)
    wait_for(lambda: server.runs, process)
    server.stop()
    (folder,) = folders(tmp_path)
    wait_for(lambda: len(folder.metrics()) > 50, process)
    server.start()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert whole(server, folder) and len(folder.metrics()) == 400
    record_property("figure", "400 rows, each once and in order")


@pytest.mark.scorecard("R13", "wandb's server gone for good: the run ends, a later upload brings all")
def test_a_server_that_goes_for_good_ends_nothing_and_gets_the_run_later(server, tmp_path, record_property):
    process = begin(server, tmp_path, "train", *MEDIUM, "norm=ln", ONLINE)
    wait_for(lambda: server.runs, process)
    server.stop()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    (folder,) = folders(tmp_path)
    assert folder.finished and len(folder.metrics()) == 400
    server.start()
    before = arrived(server)
    assert before < 400
    result = sync(server, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert whole(server, folder)
    record_property("figure", f"done, 400 rows in metrics.jsonl; the server had {before} and has 400 after wandb_sync")


@pytest.mark.scorecard("R13", "wandb's server takes the connection and never answers")
def test_a_server_that_hangs_at_the_start_leaves_offline_runs_and_is_asked_once(server, tmp_path, record_property):
    began = time.monotonic()
    with server.behaving("hang"):
        result = call(command("train", tmp_path, "-m", *SHORT, "norm=none,ln", ONLINE), server.environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("logging offline") == 1 and len(server.asked) == 1
    record_property("figure", f"2 runs done offline, the server asked once; {time.monotonic() - began:.0f} s in all")
    for folder in folders(tmp_path):
        assert folder.finished and list((folder.path / "wandb").glob("offline-run-*"))


@pytest.mark.scorecard("R15", "no network at all")
def test_without_a_network_a_run_is_offline(tmp_path, record_property):
    began = time.monotonic()
    nowhere = {"WANDB_BASE_URL": "http://wandb.invalid", "WANDB_API_KEY": "0" * 40}
    result = call(command("train", tmp_path, *SHORT, "norm=none", ONLINE), nowhere)
    assert result.returncode == 0 and "logging offline" in result.stderr, result.stderr
    record_property("figure", f"done, offline; {time.monotonic() - began:.1f} s in all")
    (folder,) = folders(tmp_path)
    assert folder.finished and list((folder.path / "wandb").glob("offline-run-*"))


def test_without_a_key_a_run_neither_asks_nor_fails(tmp_path):
    result = call(command("train", tmp_path, *SHORT, "norm=none", ONLINE), {})
    assert result.returncode == 0 and "no key" in result.stderr and "offline" in result.stderr, result.stderr


def test_the_death_of_wandbs_own_process_costs_one_run_its_mirror_and_no_more(server, tmp_path):
    process = begin(server, tmp_path, "train", "-m", *MEDIUM, "norm=none,ln")

    def cores() -> list[int]:
        return [pid for pid, line in processes(server) if "wandb-core" in line]

    core = wait_for(cores, process)[0]
    wait_for(lambda: any(folder.metrics() for folder in folders(tmp_path)), process)
    os.kill(core, signal.SIGKILL)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and "2 runs: 2 done" in output, errors
    assert errors.count("wandb is given up for this run") == 1
    sizes = sorted(file.stat().st_size for file in tmp_path.glob("runs/*/wandb/offline-run-*/*.wandb"))
    assert len(sizes) == 2 and sizes[1] > 100_000, "the next run has no mirror"


# --- runs that are brought later --------------------------------------------------------------------------------------


def test_an_offline_run_sends_nothing_and_is_brought_once_from_its_rows_alone(server, tmp_path):
    """One run has lost wandb's folder, of the other it is damaged; neither matters."""
    train(server, tmp_path, "-m", *SHORT, "norm=none,ln")
    assert server.asked == []
    lost, damaged = folders(tmp_path)
    shutil.rmtree(lost.path / "wandb")
    (file,) = damaged.path.glob("wandb/offline-run-*/*.wandb")
    file.write_bytes(file.read_bytes()[:100])

    result = sync(server, tmp_path)
    assert result.returncode == 0 and result.stdout.endswith("2 runs: 2 uploaded, 0 already uploaded, 0 failed\n")
    assert whole(server, lost) and whole(server, damaged)
    assert server.runs[lost.run_id].config["cell"]["value"]["norm"] == "ln"
    asked = len(server.asked)
    again = sync(server, tmp_path)
    assert again.returncode == 0 and again.stdout.endswith("2 runs: 0 uploaded, 2 already uploaded, 0 failed\n")
    assert set(server.asked[asked:]) <= {"Viewer", "GetDefaultEntity"}, "a run that is marked as uploaded was asked for"
    (lost.path / "uploaded.json").unlink()
    asked = len(server.asked)
    assert sync(server, tmp_path).returncode == 0
    assert "UpsertBucket" not in server.asked[asked:], "a run that the server has was uploaded"


@pytest.mark.scorecard("R14", "an offline run killed -9 and resumed is one whole run after the upload")
def test_an_offline_run_that_was_killed_and_went_on_is_one_run(server, tmp_path, trials, record_property):
    """wandb made a folder an attempt, and `wandb sync` stops at the first, which ends in the middle of a record."""
    for _ in range(trials["rounds"]):
        process = begin(server, tmp_path, "train", *LONG, "norm=ln")
        wait_for(lambda p=process: list(tmp_path.glob("runs/*/last.pt")) and in_its_steps(p, tmp_path), process)
        process.kill()
        process.communicate()
    (folder,) = folders(tmp_path)
    assert not folder.finished, "the run ended before it was killed"
    rows = len(folder.metrics())
    first = sync(server, tmp_path)
    assert first.returncode == 0 and f"uploaded {rows} rows" in first.stdout, first.stdout
    run = server.runs[folder.run_id]
    assert len(run.history) == rows and run.summary["status"] == "died" and run.state == "failed"

    train(server, tmp_path, *LONG, "norm=ln")
    second = sync(server, tmp_path)
    assert second.returncode == 0 and "uploaded 400 rows" in second.stdout, second.stdout
    assert whole(server, folder) and len(list(folder.path.glob("wandb/offline-run-*"))) == trials["rounds"] + 1
    record_property("figure", f"{trials['rounds']} kills: 400 rows, each once and in order, the last upload complete")


def in_its_steps(process: Forked, tmp_path: Path) -> bool:
    (status,) = [folder.status for folder in folders(tmp_path)]
    return status.get("pid") == process.pid and status.get("step", 0) > 0


def test_a_run_in_training_is_left_out(server, tmp_path):
    folder = made(tmp_path, "norm=ln")
    with folder.lock():
        result = sync(server, tmp_path)
    assert result.returncode == 0 and "1 in training" in result.stdout
    assert folder.run_id not in server.runs


@pytest.mark.scorecard("R14", "an upload that fails is counted, the others go up")
def test_what_fails_is_counted_and_the_others_go_up(server, tmp_path, record_property):
    good, bad = made(tmp_path, "norm=ln"), made(tmp_path, "norm=none")
    (bad.path / "config.yaml").write_text("model: [")
    (scratch := tmp_path / "scratch").mkdir()
    result = call(command("wandb_sync", tmp_path), {**server.environment, "TMPDIR": str(scratch)})
    assert result.returncode == 1 and result.stdout.endswith("2 runs: 1 uploaded, 0 already uploaded, 1 failed\n")
    assert f"{bad.run_id}: failed" in result.stdout and "Traceback" not in result.stdout + result.stderr
    wait_for(lambda: not list(scratch.iterdir()), seconds=20)  # wandb's own process outlives the command by a moment
    assert (good.path / "uploaded.json").exists() and not (bad.path / "uploaded.json").exists()
    record_property("figure", "1 uploaded, 1 failed and named, exit code 1")


def test_a_server_that_breaks_down_during_an_upload_is_waited_for_within_limits(server, tmp_path):
    """It answers until it has a name of a run. Nothing is recorded as uploaded, and the next runs are not tried."""
    made(tmp_path, "norm=ln")
    made(tmp_path, "norm=none")
    process = begin(server, tmp_path, "wandb_sync", "timeout=2")
    wait_for(lambda: "UpsertBucket" in server.asked, process)
    with server.behaving("hang"):
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert output.endswith("2 runs: 0 uploaded, 0 already uploaded, 1 failed, 1 not tried\n"), output
    assert not list(tmp_path.glob("runs/*/uploaded.json"))


@pytest.mark.parametrize("case", ["no key", "no server", "no answer", "no run"])
def test_an_upload_that_cannot_be_says_so_in_one_line(case, server, tmp_path):
    if case != "no run":
        made(tmp_path, "norm=ln")
    environment = {} if case == "no key" else server.environment
    if case == "no server":
        server.stop()
    server.behaviour = "hang" if case == "no answer" else "answer"
    result = call(command("wandb_sync", tmp_path), environment)
    assert result.returncode == (2 if case in ("no key", "no run") else 1)
    expected = {"no key": "no key on this machine", "no run": "holds no run"}
    assert expected.get(case, "the server does not answer") in result.stderr
    assert result.stderr.count("\n") == 1 and not result.stdout


# --- views ------------------------------------------------------------------------------------------------------------


def panels_of(spec: dict) -> dict[str, list[dict]]:
    sections = spec["section"]["panelBankConfig"]["sections"]
    return {section["name"]: [panel["config"] for panel in section["panels"]] for section in sections}


def test_the_dashboard_has_every_claim_with_its_cells_colours_and_axes(tmp_path):
    pytest.importorskip("wandb_workspaces")
    names = ["train_test", "family_contrast"]
    file = tmp_path / "views.json"
    line = [sys.executable, "-m", "experiments.dashboard", f"output={file}", f"profile.experiments=[{','.join(names)}]"]
    result = call(line, {})
    assert result.returncode == 0, result.stderr
    views = json.loads(file.read_text())
    assert list(views) == [f"{name} (quick)" for name in names]
    for name, spec in zip(names, views.values(), strict=True):
        rules = yaml.safe_load((ROOT / "configs" / "experiment" / f"{name}.yaml").read_text())["experiment"]
        panels = panels_of(spec)
        for claim in rules["claims"]:
            rule, *shown = panels[claim["id"]]
            assert claim["statement"] in rule["value"] and shown
            metrics = [metric for panel in shown for metric in panel["metrics"]]
            assert metrics == [family["metric"] for family in claim.get("families", [])] or metrics == (
                [*claim.get("holds", []), *claim.get("breaks", [])] or [claim.get("metric") or rules["metric"]]
            )
        curves = {(panel["metrics"][0], panel["xAxis"]) for panel in panels["learning curves"]}
        assert {("val/loss", axis) for axis in ("step", "examples")} <= curves
        assert all((p["groupAgg"], p["groupArea"]) == ("median", "minmax") for p in panels["learning curves"])
        assert [(p["metrics"], p["groupAgg"]) for p in panels["diverged runs"]] == [(["diverged"], "sum")]
        probes = [panel["metricRegex"] for panel in panels["gradients and summed inputs"]]
        assert all(
            any(re.match(p, key) for p in probes) for key in ("grad/cell.weight", "in/convs.0.1/std", "out/a/mean")
        )
        (runs,) = spec["section"]["runSets"]
        assert [key["name"] for key in runs["grouping"]] == ["cell.value.place", "cell.value.norm"]
        groups = rules.get("sources", [name])
        assert {f["key"]["name"]: f["value"] for f in runs["filters"]["filters"]} == {
            **{"group": groups, "jobType": "final", "tags": ["profile:quick"]}
        }
        colours = spec["section"]["customRunColors"]
        cells = [cell(c) for g in groups for c in expand(g, "quick")]
        assert len(colours) == len({cell_key(columns) for columns in cells})
        assert set(colours.values()) == {STYLE[columns["norm"]][0] for columns in cells}


def test_the_dashboard_is_created_then_brought_up_to_date(server):
    pytest.importorskip("wandb_workspaces")
    line = [sys.executable, "-m", "experiments.dashboard", "profile.experiments=[train_test]", "project=trial"]
    for _ in range(2):
        result = call(line, server.environment)
        assert result.returncode == 0 and "train_test (quick): http" in result.stdout, result.stderr
    ((name, given),) = server.views.items()
    assert (given["projectName"], given["entityName"]) == ("trial", ENTITY) and given["id"] == f"id-{name}"
    assert "same_in_training_and_test" in panels_of(json.loads(given["spec"]))


# --- sweeps -----------------------------------------------------------------------------------------------------------


def test_a_wandb_sweep_drives_the_same_entry_point(server, tmp_path):
    """The committed file, made small: two runs; then another sweep that asks for one of them, which is done already."""
    sweep = yaml.safe_load((ROOT / "configs" / "wandb_sweep.yaml").read_text())
    at = sweep["command"].index("data=python_docs")
    small = [argument for argument in SHORT if argument != "model=mlp"]
    sweep["command"][at : at + 2] = [*small, f"runs_dir={tmp_path / 'runs'}"]
    environment = {**server.environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for norms in (["none", "ln"], ["ln"]):
        grid = {"model": ["mlp"], "norm": norms, "optim.lr": [0.01], "seed": [3]}
        sweep["parameters"] = {key: {"values": values} for key, values in grid.items()}
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
        created = call(["wandb", "sweep", str(tmp_path / "sweep.yaml")], environment)
        agent = re.search(r"wandb agent (\S+)", created.stdout + created.stderr)[1]
        result = call(["wandb", "agent", agent], {**environment, "WANDB_DIR": str(tmp_path)})
        assert result.returncode == 0, result.stderr
    found = {folder.run_id.split("-")[2]: folder for folder in folders(tmp_path)}
    assert set(found) == {"none", "ln"}
    norm_of = {"sweep0-run1": "none", "sweep0-run0": "ln", "sweep1-run0": "ln"}
    assert set(server.runs) == set(norm_of), "a run is not the one that its agent was given"
    for name, norm in norm_of.items():
        run = server.runs[name]
        assert whole(server, found[norm], name)
        assert (run.fields["sweep"], run.fields["displayName"]) == (name[:6], found[norm].run_id)
        assert run.config["optim.lr"]["value"] == 0.01 and run.config["cell"]["value"]["norm"] == norm
