"""Any file of a run's folder, damaged at any place: the run started again equals the undamaged one, or a line says why.

In this process, a fraction of a second each. LAYERNORM_EXAMPLES=1000 tries that many, at random.
"""

import contextlib
import functools
import io
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from experiments.runs.consistency import run_problems
from experiments.runs.folder import RunFolder
from experiments.runs.rows import collect
from experiments.runs.run import Run
from experiments.status import line
from experiments.training.recorder import FolderRecorder
from experiments.training.run import train_run
from tests.helpers.configs import composed
from tests.helpers.processes import assert_equal

EXAMPLES = int(os.environ.get("LAYERNORM_EXAMPLES", "60"))
TASK = ["model=mlp", "model.hidden_sizes=[4]", "norm=bn", "data=digits", "data.batch_size=16", "wandb.mode=disabled"]
TASK += ["trainer.steps=30", "trainer.log_every=5", "trainer.evaluations=2", "trainer.checkpoint_every=0", "quiet=true"]
FILES = ["status.json", "summary.json", "metrics.jsonl", "config.yaml", "environment.json", "last.pt", "previous.pt"]
JUNK = [
    b"",
    b"\0" * 64,
    b"\xff\xfe\xc7\x80",
    b"[1]",
    b'"x"',
    b"5",
    b"{}",
    b'{"a": 1}',
    b"null",
    b"[" * 9999,
    b"{",
    b"\n",
]


class Kill(BaseException):
    """The process is gone: nothing is written after it."""


def attempt(runs_dir: Path) -> tuple[dict, str]:
    """Start the run in this folder of runs; return the outcome, and what was said on stderr."""
    cfg = OmegaConf.merge(configuration(), {"runs_dir": str(runs_dir)})
    with contextlib.redirect_stderr(said := io.StringIO()):
        outcome = train_run(Run.of(cfg))
        if outcome["status"] == "skipped":
            RunFolder(runs_dir, outcome["run_id"]).warn_if_changed()
    return outcome, said.getvalue()


@functools.cache
def configuration() -> DictConfig:
    """Cached: Hydra takes longer than the run."""
    return composed(*TASK)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunFolder:
    runs_dir = tmp_path_factory.mktemp("finished")
    outcome, _ = attempt(runs_dir)
    assert outcome["status"] == "done"
    return RunFolder(runs_dir, outcome["run_id"])


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> RunFolder:
    """Killed after the row of step 20, with checkpoints of steps 15 and 10."""
    runs_dir, log = tmp_path_factory.mktemp("killed"), FolderRecorder.log

    def log_and_die(self, row):
        log(self, row)
        if row["step"] == 20:
            raise Kill

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderRecorder, "log", log_and_die)
        patch.setattr("experiments.training.run._conclude", lambda run, *_: {"run_id": run.id, "status": "killed"})
        outcome, _ = attempt(runs_dir)
    folder = RunFolder(runs_dir, outcome["run_id"])
    (folder.path / "error.txt").unlink()
    assert folder.state == "died" and [row["step"] for row in folder.metrics()] == [5, 10, 15, 20]
    return folder


def damage(path: Path, kind: str, at: float, junk: bytes) -> None:
    """Change a file in one place; at: where, as a fraction of its length."""
    content, some = path.read_bytes(), junk[:64]
    lines = content.split(b"\n")
    place, bit, row = min(int(at * len(content)), len(content) - 1), 1 << int(at * 8191) % 8, int(at * len(lines))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "deleted":
        damaged = {
            "cut": content[:place],
            "replaced": junk,
            "flipped": content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :],
            "overwritten": content[:place] + some + content[place + len(some) :],
            "inserted": content[:place] + some + content[place:],
            "appended": content + some,
            "a line lost": b"\n".join(lines[:row] + lines[row + 1 :]),
        }
        path.write_bytes(damaged[kind])


KINDS = ["cut", "replaced", "flipped", "overwritten", "inserted", "appended", "a line lost", "deleted", "folder"]


@pytest.mark.scorecard("R17", "any file of a run's folder damaged at any place, and the run started again")
def test_a_damaged_run_started_again_is_the_undamaged_one_or_says_why(
    finished, killed, tmp_path_factory, record_property
):
    outcomes = Counter[str]()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="LAYERNORM_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        ended=st.booleans(),
        name=st.sampled_from(FILES),
        kind=st.sampled_from(KINDS),
        at=st.floats(0, 1, exclude_max=True),
        junk=st.sampled_from(JUNK) | st.binary(min_size=1, max_size=64),
    )
    def start_damaged(ended, name, kind, at, junk):
        whole = finished if ended else killed
        runs_dir = tmp_path_factory.mktemp("damaged")
        try:
            folder = RunFolder(runs_dir, whole.run_id)
            shutil.copytree(whole.path, folder.path)
            if (folder.path / name).exists():
                damage(folder.path / name, kind, at, junk)
                outcomes[check(folder, whole, name, finished)] += 1
        finally:
            shutil.rmtree(runs_dir)

    start_damaged()
    figure = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    record_property("figure", f"{outcomes.total()} damaged folders: {figure}; no traceback")


def check(folder: RunFolder, whole: RunFolder, name: str, finished: RunFolder) -> str:
    """Look at the damaged run, start it again, check what comes of it; return that in a word."""
    path = folder.path / name
    same = path.is_file() and path.read_bytes() == (whole.path / name).read_bytes()
    # Every look at it ends, with a line for what is damaged.
    line(folder, folder.state)
    problems = run_problems(folder)
    with contextlib.redirect_stderr(said := io.StringIO()):
        rows, _, missing = collect([folder.run_id], str(folder.path.parent))
    assert len(rows) + len(missing) == 1
    outcome, said = attempt(folder.path.parent)
    assert said.count("\n") <= 3 and "Traceback" not in said, said
    if outcome["status"] == "done":
        assert_equal(folder, finished)
        assert not run_problems(folder)
        return "equal to the undamaged run"
    if outcome["status"] == "skipped":
        read = name in ("status.json", "last.pt", "previous.pt")  # a status may have another time and be whole
        assert same or read or ("not as written" in said and problems), (said, problems)
        return "a finished run left as it is, and named where its result has changed"
    assert outcome["status"] == "failed" and name in outcome["message"] and "\n" not in outcome["message"], outcome
    return "refused in one line that names the file"


@pytest.mark.scorecard("R17", "a run's folder copied under another run's name is no result")
def test_a_folder_under_another_runs_name_is_not_that_run(finished, tmp_path, capsys):
    """Copied, say, to spare the training of another seed."""
    folder = RunFolder(tmp_path, finished.run_id.replace("-s0-", "-s1-"))
    shutil.copytree(finished.path, folder.path)
    assert not folder.finished and folder.state == "damaged"
    assert f"summary.json is of another run, {finished.run_id}" in run_problems(folder)[0]
    rows, _, missing = collect([folder.run_id], str(tmp_path))
    assert rows.empty and missing == [folder.run_id]
    assert capsys.readouterr().err.endswith("; start it again\n")


@pytest.mark.scorecard("R17", "damaged runs among others: status and verify go on, a line for each")
def test_one_damaged_run_stops_no_command(finished, tmp_path, cli):
    """Its line is printed as it stands, square brackets too, and the other runs are shown."""
    runs_dir = tmp_path / "runs"
    shutil.copytree(finished.path, runs_dir / finished.run_id)
    for name, content in {"a": b"[1]", "b": b"\xff\xfe", "c": b'{"a": 1}', "d": None}.items():
        (runs_dir / name).mkdir()
        (runs_dir / name / "config.yaml").write_text("model: [")
        if content is not None:
            (runs_dir / name / "status.json").write_bytes(content)
    RunFolder(runs_dir, "e").path.mkdir()
    RunFolder(runs_dir, "e").set_status("failed", message="index [/tmp/x] bad, Expected [batch, time] here")
    shown = cli("status")
    assert shown.returncode == 0 and "Traceback" not in shown.stderr, shown.stderr
    assert "index [/tmp/x] bad, Expected [batch, time] here" in shown.stdout
    assert shown.stdout.splitlines()[-1] == "6 runs: 3 damaged, 1 failed, 1 new, 1 done"
    verified = cli("verify", "rows=[]")
    assert verified.returncode == 1 and "Traceback" not in verified.stderr, verified.stderr
    assert all(f"{runs_dir / name}: " in verified.stdout for name in "abcd")
