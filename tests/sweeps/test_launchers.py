"""Every launcher: a sweep whose worker and parent are killed, started again, loses nothing and repeats nothing.

Also what Slurm does to a run, by its real signal in submitit's local executor, and who holds a run in two containers.
"""

import os
import random
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.runs.folder import RunFolder
from experiments.sweeps.launch import LaunchError, run_all
from tests.helpers.commands import ROOT
from tests.helpers.processes import QUIET, assert_equal, finish, folders, only, start, train, wait_for

SWEEP = ["-m", "model=mlp", "model.hidden_sizes=[32]", "norm=none,ln,gn", "data=digits", "trainer.steps=3000"]
SWEEP += [*QUIET, "trainer.log_every=10", "trainer.evaluations=2", "trainer.checkpoint_every=0.2"]
LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local"],
    "ray": ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"],
}
PLUGINS = {"submitit_local": "hydra_plugins.hydra_submitit_launcher", "ray": "ray"}


def runs(runs_dir: Path) -> list[RunFolder]:
    """Without the folder of submitit's logs."""
    return [folder for folder in folders(runs_dir) if not folder.run_id.startswith(".")]


def training(runs_dir: Path) -> set[int]:
    """The processes that have made a step of a run that is not finished."""
    statuses = [folder.status for folder in runs(runs_dir) if folder.held]
    return {status["pid"] for status in statuses if status["status"] == "running" and status["step"] > 0}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, RunFolder]:
    """The same sweep, one run after the other in one process, without a fault."""
    runs_dir = tmp_path_factory.mktemp("undisturbed")
    result = train(runs_dir, *SWEEP)
    assert result.returncode == 0, result.stderr
    return {folder.run_id: folder for folder in runs(runs_dir)}


@pytest.mark.scorecard("R4", "a sweep's worker and its parent killed, the sweep started again")
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_sweep_started_again_runs_what_is_unfinished(launcher, undisturbed, tmp_path, record_property):
    """kill -9 of a process that trains and of the parent; processes that the parent leaves behind go on meanwhile."""
    if launcher in PLUGINS:
        pytest.importorskip(PLUGINS[launcher])
    generator, runs_dir = random.Random(launcher), tmp_path / "runs"
    sweep = start(runs_dir, *SWEEP, *LAUNCHERS[launcher])
    try:
        wait_for(lambda: worth_a_kill(runs_dir, launcher), sweep)
        time.sleep(generator.uniform(0, 0.2))
        worker = generator.choice(sorted(wait_for(lambda: training(runs_dir), sweep)))
        with suppress(ProcessLookupError):  # its run may have ended
            os.kill(worker, signal.SIGKILL)
        time.sleep(generator.uniform(0, 1))
        sweep.kill()
        sweep.wait()
        finished = {folder.run_id: summary_of(folder) for folder in runs(runs_dir) if folder.finished}
        assert len(finished) < len(undisturbed), "the sweep ended before it was killed"
        resumed = sum(not folder.finished and (folder.path / "last.pt").exists() for folder in runs(runs_dir))
        again = train(runs_dir, *SWEEP, *LAUNCHERS[launcher])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(sweep.pid, signal.SIGKILL)
    assert again.returncode == 0 and "Traceback" not in again.stdout + again.stderr, again.stderr
    assert ", 0 diverged, 0 failed" in again.stdout.splitlines()[-1]
    assert {folder.run_id for folder in runs(runs_dir)} == set(undisturbed)
    for folder in runs(runs_dir):
        assert_equal(folder, undisturbed[folder.run_id])
        assert finished.get(folder.run_id) in (None, summary_of(folder)), "a finished run was run again"
    record_property("figure", f"{len(finished)} finished left alone, {resumed} resumed, all equal, none lost or twice")


def worth_a_kill(runs_dir: Path, launcher: str) -> bool:
    """Is there a run to go on with, and where they do not all start at once, one to be left alone?"""
    started = any(folder.held and (folder.path / "last.pt").exists() for folder in runs(runs_dir))
    return started and (launcher in PLUGINS or any(folder.finished for folder in runs(runs_dir)))


def summary_of(folder: RunFolder) -> tuple[int, int]:
    """Which file it is and when it was written: another one after a second run."""
    stat = (folder.path / "summary.json").stat()
    return stat.st_ino, stat.st_mtime_ns


@pytest.mark.scorecard("R2", "preempted under submitit by its real signal, twice: requeued and resumed")
def test_a_preempted_run_leaves_a_checkpoint_is_requeued_and_goes_on(tmp_path, record_property):
    """SIGUSR2 to the process of the job; the second time after a SIGTERM, as some clusters send it."""
    pytest.importorskip(PLUGINS["submitit_local"])
    job = ["model=lstm", "norm=bn", "model.dropout=0.3", "model.hidden_size=16", "data=python_docs", "data.seq_len=16"]
    job += ["data.batch_size=8", "trainer.steps=1500", *QUIET]  # no checkpoint but those on the signals
    reference = tmp_path / "reference"
    assert train(reference, *job).returncode == 0
    runs_dir, preempted = tmp_path / "runs", []
    sweep = start(runs_dir, "-m", *job, *LAUNCHERS["submitit_local"])
    try:
        for signals in ([signal.SIGUSR2], [signal.SIGTERM, signal.SIGUSR2]):
            pid = min(wait_for(lambda: training(runs_dir) - set(preempted), sweep))
            preempted.append(pid)
            for number in signals:
                os.kill(pid, number)
            status = wait_for(lambda: interrupted(runs(runs_dir)[0]), sweep)
            assert status == {"status": "interrupted", "message": "stopped by SIGUSR2", "pid": pid}
            saved = runs(runs_dir)[0].load_checkpoint("cpu")["state"]["step"]
            assert 0 < saved < 1500, "a checkpoint of the step that was under way"
        stdout, stderr = sweep.communicate(timeout=200)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(sweep.pid, signal.SIGKILL)
    assert sweep.returncode == 0 and "1 runs: 1 done" in stdout, stdout + stderr
    assert not (runs(runs_dir)[0].path / "error.txt").exists()
    (log,) = (path.read_text() for path in runs_dir.glob(".submitit/*/*log.out"))
    assert log.count("Starting with JobEnvironment") == 3
    assert_equal(runs(runs_dir)[0], only(reference))
    record_property("figure", "two checkpoints on the signal, requeued twice, done, equal to the undisturbed run")


def test_a_sweep_on_a_ray_cluster_that_runs(tmp_path):
    """The cluster is one machine, started outside the repository."""
    pytest.importorskip(PLUGINS["ray"])
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--num-cpus=2"]
    ray += ["--node-ip-address=127.0.0.1"]
    log = tmp_path / "ray.log"
    with log.open("w") as output:
        node = subprocess.Popen(
            [*ray, "--include-dashboard=false", "--disable-usage-stats", "--block"], cwd=tmp_path, stdout=output
        )
    try:
        wait_for(lambda: "block forever" in log.read_text(), node)
        job = ["model=mlp", "model.hidden_sizes=[8]", "norm=none,ln", "data=digits", "trainer.steps=20", *QUIET]
        cluster = ["hydra/launcher=ray", "hydra.launcher.ray.init.address=auto"]
        result = train(tmp_path / "runs", "-m", *job, *cluster)
    finally:
        node.terminate()
        node.wait(60)
    assert result.returncode == 0 and "2 runs: 2 done" in result.stdout, result.stdout + result.stderr


def interrupted(folder: RunFolder) -> dict:
    """The status of an interrupted run, {} for another."""
    status = folder.status
    shown = {key: status.get(key) for key in ("status", "message", "pid")}
    return shown if status["status"] == "interrupted" else {}


def test_a_sweep_can_be_launched_in_batches(tmp_path):
    """As a job array of Slurm has its limit; here each run is done as soon as it is launched."""
    folders, sizes = [RunFolder(tmp_path, str(number)) for number in range(5)], []

    def launch(batch: list[int]) -> list[SimpleNamespace]:
        sizes.append(len(batch))
        for index in batch:
            finish(folders[index])
        return [SimpleNamespace(return_value={"status": "done"}) for _ in batch]

    assert run_all(launch, folders, [0, 1, 2, 4], most=3) == {} and sizes == [3, 1]


def ended(status: str):
    """What a launcher returns of a run."""
    return SimpleNamespace(return_value={"status": status, "message": ""})


def test_a_launcher_whose_runs_leave_no_trace_is_not_asked_for_ever(tmp_path):
    """As where the workers see another runs_dir than the sweep: they report an end that is nowhere."""
    launches = []
    with pytest.raises(LaunchError, match="do its workers see the same runs_dir"):
        run_all(lambda batch: launches.append(batch) or [ended("skipped")], [RunFolder(tmp_path, "run")], [0])
    assert len(launches) == 2


@pytest.mark.parametrize("outcome", ["interrupted", "crash"])
@pytest.mark.parametrize("clock", [-3600.0, 0.0, 3600.0])
def test_a_run_that_comes_no_further_is_given_up_whatever_its_clock_says(clock, outcome, tmp_path, monkeypatch):
    """Its process starts and dies, or is preempted, at the same step each time, on a machine with another clock."""
    folder, launches, time_here = RunFolder(tmp_path, "run"), [], time.time
    monkeypatch.setattr("experiments.runs.folder.time.time", lambda: time_here() + clock)

    def launch(batch: list[int]):
        launches.append(batch)
        assert len(launches) < 5
        with folder.lock():
            folder.set_status("running" if outcome == "crash" else outcome, step=0)
        if outcome == "crash":
            raise RuntimeError("a worker was killed")
        return [ended(outcome)]

    if outcome == "crash":
        assert run_all(launch, [folder], [0]) == {0: "its process was killed twice; out of memory?"}
    else:
        with pytest.raises(LaunchError, match="stands as before"):
            run_all(launch, [folder], [0])
    assert len(launches) <= 3


@pytest.mark.parametrize("launcher", PLUGINS)
def test_a_launcher_that_is_not_installed_is_named_with_its_extra(launcher, tmp_path):
    """The plugins of Hydra are hidden from the process."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        f"import sys\nsys.modules[{PLUGINS[launcher]!r}] = None\n"  # an import then says that there is none
    )
    environment = os.environ | {"PYTHONPATH": str(hidden)}
    result = train(tmp_path / "runs", *SWEEP, f"hydra/launcher={launcher}", env=environment)
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert f"hydra/launcher={launcher} needs the extra" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_file_system_without_locks_is_refused(tmp_path):
    """As Lustre is when it is mounted without them: flock answers that there is none."""
    injected = tmp_path / "injected"
    injected.mkdir()
    (injected / "sitecustomize.py").write_text(
        "import errno, fcntl\n"
        "def flock(file, operation):\n"
        "    raise OSError(errno.ENOSYS, 'Function not implemented')\n"
        "fcntl.flock = flock\n"
    )
    job = ["model=mlp", "model.hidden_sizes=[8]", "data=digits", "trainer.steps=2", *QUIET]
    result = train(tmp_path / "runs", *job, env=os.environ | {"PYTHONPATH": str(injected)})
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert "this file system has no locks" in result.stderr and "choose another runs_dir" in result.stderr
    assert [path.name for path in only(tmp_path / "runs").path.iterdir()] == ["lock"]


@pytest.mark.scorecard("R12", "a run started in two containers that share its folder")
def test_two_containers_that_share_a_folder_do_not_train_one_run(tmp_path, record_property):
    """Mounts, processes and host names of their own; the shared folder has another path in each."""
    isolated = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to make namespaces; a lock between two processes is tested without it")
    code = """import sys
from experiments.runs.folder import AlreadyRunningError, RunFolder
try:
    with RunFolder(sys.argv[1], "run").lock():
        print("held", flush=True)
        sys.stdin.read()
except AlreadyRunningError as error:
    print(error, flush=True)
"""
    shared = tmp_path / "shared"
    shared.mkdir()

    def container(name: str) -> subprocess.Popen:
        mounted = tmp_path / name
        mounted.mkdir()
        python = shlex.join([sys.executable, "-c", code, f"{mounted}/runs"])
        inside = f"hostname {name} && mount --bind {shared} {mounted} && exec {python}"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen([*isolated, "sh", "-c", inside], cwd=ROOT, **pipes)

    first = container("first")
    try:
        assert first.stdout.readline() == "held\n"
        second = container("second")
        assert "already running" in second.communicate(timeout=60)[0]
    finally:
        first.kill()
        first.wait()
    third = container("third")
    assert third.communicate("", timeout=60)[0] == "held\n", "the lock ended with its process"
    record_property("figure", "the second is refused; once the first is killed the third has it")
