"""Faults of real runs: killed, stopped, out of disk space, their files damaged, two at once.

Each test names its row of the scorecard (results/reference/faults) and states the figure it reached. With --campaign
the kills at random moments go on for long: scripts/fault_campaign.sh.
"""

import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from experiments.runs.folder import AlreadyRunningError, DamagedCheckpointError, RunFolder, read_checkpoint
from tests.helpers import processes
from tests.helpers.commands import ROOT
from tests.helpers.processes import OFTEN, TASKS, alive, assert_equal, folders, only, same, start, train, wait_for

SWEEP = [
    "-m",
    "model=mlp",
    "model.hidden_sizes=[64]",
    "norm=none,ln",
    "seed=0,1",
    "data=digits",
    "trainer.steps=400",
    *OFTEN,
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """undisturbed(task) -> the folder of a run without a fault; each is trained once."""
    done: dict[str, RunFolder] = {}

    def of(task: str) -> RunFolder:
        if task not in done:
            runs_dir = tmp_path_factory.mktemp("undisturbed")
            result = train(runs_dir, *TASKS[task], *OFTEN)
            assert result.returncode == 0, result.stderr
            done[task] = only(runs_dir)
        return done[task]

    return of


# --- Killed and stopped -----------------------------------------------------------------------------------------------


@pytest.mark.scorecard("R1", "kill -9 at random moments: resumed bit for bit")
@pytest.mark.parametrize("task", TASKS)
def test_killed_at_random_moments(task, trials, undisturbed, tmp_path, record_property):
    """Weights, optimiser, generators and rows equal those of the undisturbed run, however often it was killed."""
    reference, kills, redone = undisturbed(task), 0, []
    for trial in range(trials["rounds"]):
        generator, runs_dir = random.Random(f"{task} {trial}"), tmp_path / str(trial)
        for _ in range(trials["kills"]):
            process = start(runs_dir, *TASKS[task], *OFTEN)
            # Now and then before the first step of this attempt, mostly in the middle of its steps.
            if generator.random() < 0.8:
                wait_for(lambda p=process, runs_dir=runs_dir: p.poll() is not None or progress_of(p, runs_dir))
            time.sleep(generator.uniform(0.0, 0.05))
            process.kill()
            if process.wait() != -signal.SIGKILL:
                break  # the run had come to its end
            kills += 1
            if folders(runs_dir):
                saved = only(runs_dir).load_checkpoint("cpu")
                redone.append(only(runs_dir).status.get("step", 0) - (saved["state"]["step"] if saved else 0))
        assert train(runs_dir, *TASKS[task], *OFTEN).returncode == 0
        assert_equal(only(runs_dir), reference)
    assert kills >= 2 * trials["rounds"], "most attempts ended before they were killed"
    figure = f"{trials['rounds']} trials, {kills} kills, all equal; at most {max(redone, default=0)} steps redone"
    record_property("figure", figure)
    for left_out in ("optimizer", "generators"):  # the comparison must be able to fail
        changed = only(runs_dir).load_checkpoint("cpu")
        changed[left_out] = {}
        assert not same(changed, reference.load_checkpoint("cpu"))


def progress_of(process: subprocess.Popen, runs_dir: Path) -> bool:
    """Has this attempt made a step?"""
    return (
        bool(folders(runs_dir))
        and only(runs_dir).status.get("pid") == process.pid
        and only(runs_dir).status["step"] > 0
    )


@pytest.mark.scorecard("R2", "SIGSTOP and SIGCONT: equal to the undisturbed run")
def test_a_run_that_is_held_up_goes_on(undisturbed, tmp_path, record_property):
    task = "feed-forward"
    process = start(tmp_path, *TASKS[task], *OFTEN)
    wait_for(lambda: progress_of(process, tmp_path), process)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 0
    assert_equal(only(tmp_path), undisturbed(task))
    record_property("figure", "exit code 0; equal to the undisturbed run")


@pytest.mark.scorecard("R1", "control: a resume without the generators' states is found out")
def test_a_resume_that_forgets_the_generators_is_found_out(undisturbed, tmp_path, record_property):
    """Dropout draws from the generator, so the weights of a run that resumes with another state must differ."""
    task = "LSTM, dropout"
    interrupted(tmp_path, task, signal.SIGTERM)
    folder = only(tmp_path)
    content = folder.load_checkpoint("cpu")
    content["generators"]["cpu"] = torch.Generator().manual_seed(1).get_state()
    with folder.lock():
        folder.save_checkpoint({key: value for key, value in content.items() if key not in ("format", "run_id")})
    assert train(tmp_path, *TASKS[task], *OFTEN).returncode == 0
    assert not same(folder.load_checkpoint("cpu")["model"], undisturbed(task).load_checkpoint("cpu")["model"])
    record_property("figure", "the weights differ")


def interrupted(runs_dir: Path, task: str, number: int) -> tuple[int, float, str]:
    """A run that got the signal in its steps: exit code, seconds from the signal to the status, stderr."""
    process = start(runs_dir, *TASKS[task], *OFTEN)
    wait_for(lambda: progress_of(process, runs_dir), process)
    sent = time.time()
    process.send_signal(number)
    stderr = process.communicate(timeout=60)[1]
    return process.returncode, only(runs_dir).status["updated"] - sent, stderr


@pytest.mark.scorecard("R2", "SIGTERM, Ctrl-C and SIGHUP: checkpoint at the next step, status interrupted")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("task", ["LSTM, dropout"])
def test_a_signal_leaves_a_checkpoint(task, number, code, undisturbed, tmp_path, record_property):
    returned, seconds, stderr = interrupted(tmp_path, task, number)
    folder = only(tmp_path)
    status, saved = folder.status, folder.load_checkpoint("cpu")
    assert returned == code and status["status"] == "interrupted", stderr
    assert "Traceback" not in stderr and "goes on from the checkpoint" in stderr
    assert 0 <= saved["state"]["step"] - status["step"] <= 400, "the checkpoint is of the last step"
    assert not (folder.path / "error.txt").exists()
    assert train(tmp_path, *TASKS[task], *OFTEN).returncode == 0
    assert_equal(folder, undisturbed(task))
    record_property("figure", f"exit code {code}, {seconds:.2f} s after the signal, resumed bit for bit")


@pytest.mark.scorecard("R3", "the same run twice, in two processes")
@pytest.mark.parametrize("task", TASKS)
def test_the_same_run_twice_is_the_same(task, undisturbed, tmp_path, record_property):
    assert train(tmp_path, *TASKS[task], *OFTEN).returncode == 0
    assert_equal(only(tmp_path), undisturbed(task))
    record_property("figure", "equal to the last bit")


# --- Sweeps -----------------------------------------------------------------------------------------------------------


@pytest.mark.scorecard("R2", "SIGTERM to a sweep: its workers leave checkpoints")
def test_a_sweep_asked_to_stop_leaves_checkpoints_and_goes_on_later(tmp_path, record_property):
    arguments = [*SWEEP[: -len(OFTEN) - 1], "trainer.steps=3000", *OFTEN, "hydra/launcher=joblib"]
    sweep = start(tmp_path, *arguments)
    wait_for(lambda: sum(f.status.get("step", 0) > 0 for f in folders(tmp_path)) >= 2, sweep)
    sweep.send_signal(signal.SIGTERM)
    stdout, stderr = sweep.communicate(timeout=120)
    states = [folder.state for folder in folders(tmp_path)]
    assert sweep.returncode == 143, stderr
    assert states.count("interrupted") == 2 and "2 interrupted" in stdout, stdout
    assert all(folder.load_checkpoint("cpu") for folder in folders(tmp_path) if folder.state == "interrupted")
    assert "Traceback" not in stderr
    record_property("figure", "exit code 143, both runs in progress left checkpoints, no other was started")


@pytest.mark.scorecard("R5", "three of six runs raise, exit and are killed each time: the others are done")
def test_bad_runs_leave_the_others_done(tmp_path, record_property):
    """Each un-normalised run ends in another way, in its own process, each time it starts."""
    runs_dir = tmp_path / "runs"
    injected = tmp_path / "injected"
    injected.mkdir()
    (injected / "sitecustomize.py").write_text(BAD_RUNS)
    sweep = [argument.replace("seed=0,1", "seed=0,1,2") for argument in SWEEP]
    environment = os.environ | {"PYTHONPATH": str(injected)}
    result = train(runs_dir, *sweep, "hydra/launcher=joblib", env=environment)
    assert result.returncode == 1
    lines = result.stdout.strip().splitlines()
    raises, exits, killed = bad = [folder for folder in folders(runs_dir) if not folder.finished]
    assert all("-mlp-none-" in folder.run_id and f"-s{seed}-" in folder.run_id for seed, folder in enumerate(bad))
    assert lines[-1] == "6 runs: 3 done, 0 skipped, 0 diverged, 3 failed"
    assert sorted(lines[-4:-1]) == sorted(f"failed: {folder.path}: {folder.status['message']}" for folder in bad)
    assert "boom" in raises.status["message"] and "killed twice" in killed.status["message"]
    assert all(folder.status["status"] == "failed" for folder in bad)
    assert all("Traceback" in (folder.path / "error.txt").read_text() for folder in (raises, exits))
    assert "Traceback" not in result.stdout + result.stderr
    again = train(runs_dir, *sweep)
    assert again.returncode == 0 and "6 runs: 3 done, 3 skipped" in again.stdout
    record_property("figure", "3 done, 3 failed and named, exit code 1; done when started again")


# Python reads it at start-up, in every process of the sweep.
BAD_RUNS = """
import os, sys, signal, importlib.abc, importlib.util

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "experiments.training.loop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader = spec.loader.exec_module
        def exec_module(module):
            loader(module)
            fit = module.fit
            def bad(model, task, optim, settings, recorder, *others):
                if "-none-" in (name := recorder.folder.run_id):
                    if "-s0-" in name:
                        raise ValueError("boom")
                    if "-s1-" in name:
                        sys.exit(3)
                    os.kill(os.getpid(), signal.SIGKILL)
                return fit(model, task, optim, settings, recorder, *others)
            module.fit = bad
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.scorecard("R12", "two sweeps at once in one folder share the work")
def test_two_sweeps_at_once_share_the_runs(tmp_path, record_property):
    # Runs that take longer than the second sweep needs to start.
    long = [argument.replace("trainer.steps=400", "trainer.steps=4000") for argument in SWEEP]
    both = [start(tmp_path, *long) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    trained = folders(tmp_path)
    assert len(trained) == 4 and all(folder.finished for folder in trained)
    assert all(
        [row["step"] for row in folder.metrics()] == sorted({row["step"] for row in folder.metrics()})
        for folder in trained
    )
    shares = [sum(folder.status["pid"] == process.pid for folder in trained) for process in both]
    assert sum(shares) == 4 and min(shares) >= 1, shares
    record_property("figure", f"4 runs, none twice: {shares[0]} by one sweep, {shares[1]} by the other; both exit 0")


@pytest.mark.scorecard("R12", "one run started twice at once: the second refuses")
def test_one_run_started_twice_is_refused(tmp_path, record_property):
    task = [part.replace("trainer.steps=400", "trainer.steps=30000") for part in TASKS["feed-forward"]]
    first = start(tmp_path, *task, *OFTEN)
    try:
        wait_for(lambda: progress_of(first, tmp_path), first)
        second = train(tmp_path, *task, *OFTEN)
    finally:
        first.kill()
        first.wait()
    assert second.returncode == 1 and f"already running (pid {first.pid})" in second.stderr, second.stderr
    assert "Traceback" not in second.stderr
    record_property("figure", "exit code 1, the process named")


# --- Disk and checkpoints ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1.2 MB: room for one checkpoint of the network below, not for three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount; the limit on the size of a file is tested without it")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.scorecard("R6", "disk full while checkpointing")
def test_a_full_disk_leaves_the_old_checkpoint_whole(small_disk, tmp_path, record_property):
    task = ["model=mlp", "model.hidden_sizes=[100,100]", "norm=ln", "data=digits", *OFTEN, "trainer.steps=1500"]
    filler = tmp_path / "disk" / "filler"
    process = start(small_disk / "runs", *task)
    wait_for(lambda: progress_of(process, small_disk / "runs") and list(small_disk.glob("runs/*/last.pt")), process)
    with pytest.raises(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    _, stderr = process.communicate(timeout=60)
    folder = only(small_disk / "runs")
    assert process.returncode == 1 and stderr.count("make room and start again") == 1, stderr
    assert "No space left on device" in stderr and "Traceback" not in stderr
    assert folder.load_checkpoint("cpu")["state"]["step"] > 0, "the checkpoint from before is whole"
    assert not list(folder.path.glob(".*.tmp"))
    filler.unlink()
    assert train(small_disk / "runs", *task).returncode == 0
    reference = tmp_path / "reference"
    assert train(reference, *task).returncode == 0
    assert_equal(folder, only(reference))
    record_property("figure", "one line, the old checkpoint whole, nothing half-written; with room it goes on, equal")


@pytest.mark.scorecard("R6", "a checkpoint larger than the system allows a file to be")
def test_a_file_that_may_not_grow_leaves_the_old_checkpoint_whole(undisturbed, tmp_path, record_property):
    task = "feed-forward"
    interrupted(tmp_path, task, signal.SIGTERM)
    path = only(tmp_path).path / "last.pt"
    before = path.read_bytes()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))

    result = train(tmp_path, *TASKS[task], *OFTEN, preexec_fn=limit)
    assert result.returncode == 1 and result.stderr.count("make room and start again") == 1, result.stderr
    assert "Traceback" not in result.stderr and path.read_bytes() == before
    assert train(tmp_path, *TASKS[task], *OFTEN).returncode == 0
    assert_equal(only(tmp_path), undisturbed(task))
    record_property("figure", "one line, the old checkpoint untouched; without the limit it goes on, equal")


@pytest.fixture
def checkpointed(tmp_path) -> RunFolder:
    """A folder with two checkpoints: last.pt of step 2, previous.pt of step 1."""
    folder = RunFolder(tmp_path / "runs", "run")
    with folder.lock():
        for step in (1, 2):
            folder.save_checkpoint({"state": {"step": step}, "weights": torch.arange(1000.0) + step})
    return folder


def test_the_checkpoint_before_is_kept(checkpointed):
    assert checkpointed.load_checkpoint("cpu")["state"]["step"] == 2
    (checkpointed.path / "last.pt").unlink()
    assert checkpointed.load_checkpoint("cpu")["state"]["step"] == 1
    (checkpointed.path / "previous.pt").unlink()
    assert checkpointed.load_checkpoint("cpu") is None


@pytest.mark.scorecard("R7", "a damaged checkpoint is found before a step, and the one before is used")
def test_every_damage_to_a_checkpoint_is_found(checkpointed, capsys, record_property):
    path = checkpointed.path / "last.pt"
    whole = path.read_bytes()
    generator = random.Random(0)
    places = sorted({0, 1, len(whole) - 1, len(whole) - 40, *generator.sample(range(len(whole)), 300)})
    damages = [whole[:at] + bytes([whole[at] ^ (1 << generator.randrange(8))]) + whole[at + 1 :] for at in places]
    damages += [whole[: int(len(whole) * part)] for part in (0, 0.3, 0.9, 0.999)] + [b"", b"text", whole + b"x"]
    for damaged in damages:
        path.write_bytes(damaged)
        assert checkpointed.load_checkpoint("cpu")["state"]["step"] == 1
        line = capsys.readouterr().err
        assert line.startswith(f"{path} is not used: ") and line.count("\n") == 1
    path.write_bytes(whole)
    assert checkpointed.load_checkpoint("cpu")["state"]["step"] == 2
    record_property("figure", f"{len(damages)} damages (bit flips at {len(places)} places, truncations), all found")


def test_a_checkpoint_of_another_run_or_format_is_not_used(checkpointed, monkeypatch):
    path = checkpointed.path / "last.pt"
    with pytest.raises(DamagedCheckpointError, match="of format 1 and run run, not of format 1 and other"):
        read_checkpoint(path, "other", "cpu")
    monkeypatch.setattr("experiments.runs.folder.FORMAT", 2)
    with pytest.raises(DamagedCheckpointError, match="not of format 2 and run"):
        read_checkpoint(path, "run", "cpu")


@pytest.mark.scorecard("R7", "a run whose last checkpoint is damaged goes on from the one before, and says so")
def test_a_run_goes_on_from_the_checkpoint_before(undisturbed, tmp_path, record_property):
    task = "convolutional"
    process = start(tmp_path, *TASKS[task], *OFTEN)
    wait_for(lambda: list(tmp_path.glob("*/previous.pt")), process)
    process.kill()
    process.wait()
    path = only(tmp_path).path / "last.pt"
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes([content[1000] ^ 8]) + content[1001:])
    result = train(tmp_path, *TASKS[task], *OFTEN)
    assert result.returncode == 0 and "last.pt is not used" in result.stderr, result.stderr
    assert_equal(only(tmp_path), undisturbed(task))
    record_property("figure", "equal to the undisturbed run")


class Malicious:
    """Unpickled, it would write a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.mark.scorecard("R8", "a malicious checkpoint is refused")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_a_malicious_checkpoint_is_not_executed(legacy, signed, checkpointed, tmp_path, capsys, record_property):
    """Signed: with the right checksum too, as one who knows this file would write it."""
    import hashlib

    path, marker = checkpointed.path / "last.pt", tmp_path / "marker"
    torch.save({"x": Malicious(marker)}, path, _use_new_zipfile_serialization=not legacy)
    if signed:
        archive = path.read_bytes()[:-2] + bytes(2)
        path.write_bytes(archive[:-2] + (32).to_bytes(2, "little") + hashlib.sha256(archive).digest())
    assert checkpointed.load_checkpoint("cpu")["state"]["step"] == 1
    assert not marker.exists()
    assert capsys.readouterr().err.count("\n") == 1
    torch.load(path, weights_only=False) if not legacy else None
    assert legacy or marker.exists(), "the control: it does write the file where it is trusted"
    record_property("figure", "refused in one line, not executed")


# --- Leftovers --------------------------------------------------------------------------------------------------------


@pytest.mark.scorecard("R16", "leftovers of a dead process are cleaned at the next start")
def test_leftovers_of_a_dead_process_are_cleaned(undisturbed, tmp_path, record_property):
    task = "feed-forward"
    process = start(tmp_path, *TASKS[task], *OFTEN)
    wait_for(lambda: list(tmp_path.glob("*/last.pt")), process)
    process.kill()
    process.wait()
    folder = only(tmp_path)
    assert not alive(process.pid) and folder.state == "died"
    (folder.path / ".last.pt.1.tmp").write_bytes(b"half")
    (folder.path / ".status.json.1.tmp").write_bytes(b"half")
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 390, "train/lo')
    (folder.path / "status.json").write_text('{"status": "runn')
    assert train(tmp_path, *TASKS[task], *OFTEN).returncode == 0
    assert not list(folder.path.glob(".*"))
    assert_equal(folder, undisturbed(task))
    record_property("figure", "temporary files gone, half rows dropped, lock taken over, run equal")


def test_one_run_is_held_by_one_process(tmp_path):
    code = f"""import sys
from experiments.runs.folder import RunFolder
with RunFolder({str(tmp_path)!r}, "run").lock() as folder:
    folder.set_status("running")
    print("held", flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen(
        [processes.sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    folder = RunFolder(tmp_path, "run")
    assert folder.held and folder.state == "running"
    with pytest.raises(AlreadyRunningError, match=f"pid {other.pid}"), folder.lock():
        pass
    other.kill()
    other.wait()
    assert not folder.held and folder.state == "died"
    with folder.lock():
        pass
