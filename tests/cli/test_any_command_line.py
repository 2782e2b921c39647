"""Whatever is typed after any command ends in time, without a traceback, and writes nothing where it should not.

Lines that work, with up to three mistakes in each: misspelt and broken words, odd values, further flags, a word left
out or given twice. LAYERNORM_EXAMPLES=1000 tries that many, at random.
"""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.helpers.commands import ROOT
from tests.helpers.tiny_runs import MODELS, train

EXAMPLES = os.environ.get("LAYERNORM_EXAMPLES")
BOUND = 120  # seconds; a run of these needs less than two
MLP = ["model=mlp", "model.hidden_sizes=[4]", "data=digits", "data.batch_size=16", "optim.lr=0.01"]
SHORT = ["trainer.steps=2", "trainer.evaluations=1", "wandb.mode=disabled", "runs_dir=runs"]
ONE = "profile.experiments=[train_test]"  # each takes a tenth of a second to be composed
# What is typed, and what stays as it is in every line: without it a right line would train or time for long.
LINES = {
    "experiments.train": [
        ([*MLP, "norm=ln", "seed=3"], SHORT),
        (["-m", *MLP, "norm=ln,bn", "hydra.sweeper.max_batch_size=1"], SHORT),
        (["experiment=train_test", "norm=ln", "seed=20,21", "profile=quick"], ["plan=true", *SHORT]),
        (["run=train-mlp", "threads=1"], SHORT),
    ],
    "experiments.tune": [(["experiment=train_test", "profile=quick", "experiment.tune_lr=[0.1]"], ["plan=true"])],
    "experiments.report": [
        (["profile=quick", "runs_dir=runs", "output=out", "readme=false"], [ONE]),
        ([f"rows={ROOT / 'results/reference/quick'}", "output=thesis"], [ONE]),
    ],
    "experiments.compare": [(["runs=train-mlp", "baseline=norm:none", "runs_dir=runs", "output=out"], [])],
    "experiments.verify": [(["runs_dir=runs", "rows=[]", "tolerance=0.1"], [])],
    "experiments.status": [(["profile=quick", "only=train_test", "runs_dir=runs"], [])],
    "experiments.export": [(["run=train-mlp-none", "runs_dir=runs", "output=out"], [])],
    "experiments.sample": [(["run=train-lstm", "prompt=The", "length=5", "temperature=0.7"], ["runs_dir=runs"])],
    "experiments.inspect": [(["run=train-mlp-none", "runs_dir=runs", "output=out"], [])],
    "experiments.dashboard": [(["profile=quick", "project=p"], [ONE, "output=views.json"])],
    "experiments.wandb_sync": [(["runs_dir=runs", "project=p", "timeout=1"], [])],
    "experiments.benchmark": [
        (["sizes=[16]", "threads=1", "output=out"], [f"rows={ROOT / 'results/reference/benchmark'}"])
    ],
    "data.fetch": [(["mnist", "--root=out"], [])],
}
ODD = ["", "null", "???", "[", "{a:", '"', "'", "${oc.env:HOME}", "${nosuch:1}", "~", "~nosuchuser/x", "-1", "0", "nan"]
ODD += ["1e999", "9" * 30, "é", "[1,2]", "[]", "{a:1}", "a,b", "a=b", "range(1,1000000000)", "glob(*)", "choice(ln,bn)"]
ODD += ["a" * 300, "..", "file", "file/x", "thesis", "loop", "dangling", "true", "two words", "a\nb", "\\", "int(1)"]
FURTHER = ["-m", "--help", "--cfg", "--cfg=job", "--info", "--hydra-help", "--version", "--resolve", "--config-name=x"]
FURTHER += ["--config-dir=nowhere", "--package=x", "-x", "--", "+x=1", "++norm=ln", "~norm", "~seed", "xx=1"]
FURTHER += ["hydra.verbose=true", "hydra.job.chdir=true", "hydra/launcher=nosuch", "hydra.launcher.n_jobs=0"]
FURTHER += ["hydra.searchpath=[pkg://nosuch]", "hydra.sweeper.max_batch_size=0", "hydra/sweeper=basic", "stage=tune"]
FURTHER += ["norm=lnn", "model=cnn"]
SIGNS = "\"'[]{}(),=:\\$@# \t\n"


@st.composite
def lines(draw) -> tuple[str, list[str]]:
    """A command and its arguments."""
    command = draw(st.sampled_from(sorted(LINES)))
    words, fixed = draw(st.sampled_from(LINES[command]))
    words = list(words)
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["misspelt", "broken", "odd value", "odd value", "further", "left out", "twice"]))
        if kind == "further" or not words:
            words.insert(draw(st.integers(0, len(words))), draw(st.sampled_from(FURTHER)))
            continue
        at = draw(st.integers(0, len(words) - 1))
        word, place = words[at], draw(st.integers(0, len(words[at])))
        if kind == "misspelt":
            words[at] = word[: max(place - 1, 0)] + draw(st.sampled_from(["", "x", "_"])) + word[place:]
        elif kind == "broken":
            words[at] = word[:place] + draw(st.sampled_from(SIGNS)) + word[place:]
        elif kind == "odd value":
            words[at] = f"{word.partition('=')[0]}={draw(st.sampled_from(ODD))}"
        elif kind == "left out":
            del words[at]
        else:
            words.insert(at, word)
    return command, [*words, *fixed]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with finished runs, and what belongs to others."""
    folder = tmp_path_factory.mktemp("prepared")
    for norm in ("none", "ln"):
        train(folder / "runs", *MLP, f"norm={norm}", "trainer.steps=2", "trainer.evaluations=1")
    train(folder / "runs", *MODELS["lstm-bn"])
    (folder / "file").write_text("a file")
    (folder / "thesis").mkdir()
    (folder / "thesis" / "claims.md").write_text("mine")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and the folders without any."""
    paths = (path for path in folder.rglob("*") if not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in paths}


def own_files() -> list[tuple]:
    """The files of this repository that a command could change by mistake."""
    paths = [ROOT / "README.md", *(ROOT / "configs").rglob("*.yaml"), *(ROOT / "results" / "reference").rglob("*")]
    return sorted((str(path), path.stat().st_mtime_ns) for path in paths)


@pytest.mark.scorecard("R10", "any command line ends in time, in one line or as it says, and writes where it may")
def test_any_command_line_ends_in_one_line_or_does_what_it_says(prepared, server, tmp_path, record_property):
    before, ours, outcomes = content(prepared), own_files(), Counter[str]()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "LAYERNORM_D"))}
    environment |= dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9") | {"HOME": str(tmp_path / "home")}

    @settings(
        max_examples=int(EXAMPLES or 20),
        derandomize=EXAMPLES is None,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a line is short as it is
        suppress_health_check=list(HealthCheck),
    )
    @given(lines())
    def check(line):
        command, arguments = line
        folder = tmp_path / "place" / "folder"
        shutil.copytree(prepared, folder, symlinks=True)
        try:
            result = server(command, tuple(arguments), environment, folder, BOUND)
            outcomes[said(result, content(folder), before)] += 1
            assert [path.name for path in folder.parent.iterdir()] == ["folder"]
        finally:
            shutil.rmtree(folder.parent)

    check()
    assert own_files() == ours
    figure = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    record_property("figure", f"{outcomes.total()} command lines: {figure}; no traceback, none without end")


def said(result, after: dict[str, bytes], before: dict[str, bytes]) -> str:
    """Check what a command said and left; return the outcome in a word."""
    assert result.returncode is not None, "it does not end"
    assert "Traceback" not in result.stdout + result.stderr, result.stderr
    theirs = ("file", "thesis/claims.md")
    assert all(after.get(name) == before[name] for name in theirs), "another's file was changed"
    if result.returncode == 0:
        return "done"
    assert result.returncode in (1, 2), result.returncode
    if result.returncode == 2:
        assert after == before, f"written: {sorted(set(after.items()) ^ set(before.items()))}"
        assert result.stdout == "", result.stdout
    printed = result.stderr or result.stdout  # verify prints the problems that it found, and status its table
    assert result.stderr.count("\n") == 1 or (not result.stderr and result.stdout), printed
    return "refused" if result.returncode == 2 else "failed"
