"""The committed reference results, rebuilt from their rows alone, and what the README says of them."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from experiments.figures import norms_of
from tests.conftest import ROOT

REFERENCE = ROOT / "results" / "reference" / "quick"


def report(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "experiments.report", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    output = tmp_path_factory.mktemp("report")
    result = report(f"rows={REFERENCE}", f"output={output}")
    assert result.returncode == 0, result.stderr
    return output, result.stdout


def test_rows_alone_rebuild_every_file(rebuilt):
    output, _ = rebuilt
    names = sorted(str(path.relative_to(REFERENCE)) for path in REFERENCE.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    for name in names:
        if name.endswith((".csv", ".json", ".md")):
            assert (output / name).read_text() == (REFERENCE / name).read_text(), f"{name} drifted from its rows"


def test_the_command_ends_with_the_verdicts_and_the_page(rebuilt):
    output, stdout = rebuilt
    assert stdout.strip().endswith(f"report: {output / 'report.html'}")
    claims = json.loads((REFERENCE / "claims.json").read_text())["claims"]
    assert all(claim["statement"] in stdout and claim["why"] in stdout for claim in claims)


def test_an_experiment_without_runs_is_told_not_left_out(tmp_path):
    for name, column in (("runs.csv", "experiment"), ("curves.csv", "run_id")):
        table = pd.read_csv(REFERENCE / name)
        table[table[column].str.startswith("conv_gain")].to_csv(tmp_path / name, index=False)
    result = report(f"rows={tmp_path}", f"output={tmp_path / 'out'}")
    assert result.returncode == 0, result.stderr
    claims = json.loads((tmp_path / "out" / "claims.json").read_text())["claims"]
    assert len(claims) == len(json.loads((REFERENCE / "claims.json").read_text())["claims"])
    lost = [claim for claim in claims if claim["experiment"] != "conv_gain"]
    assert all(claim["verdict"] == "not resolved" and "5 of 5 pairs" in claim["why"] for claim in lost)


def test_a_report_without_runs_is_refused_in_one_line(tmp_path):
    result = report("profile=quick", f"runs_dir={tmp_path}", f"output={tmp_path / 'out'}")
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "no finished run" in result.stderr and not (tmp_path / "out").exists()


def test_a_normaliser_without_a_colour_is_drawn_all_the_same():
    assert norms_of(pd.DataFrame({"norm": ["mine", "ln", "none"]})) == ["none", "ln", "mine"]


def test_the_page_is_whole_and_needs_no_network(rebuilt):
    output, _ = rebuilt
    page = (output / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page.replace('xlink:href="#', "")), "a link leaves the page"
    assert not re.findall(r"<script|@import|url\((?!#)", page)
    claims = json.loads((output / "claims.json").read_text())["claims"]
    assert len(re.findall(r'class="card ', page)) == len(claims) > 10
    assert len(re.findall(r"<svg", page)) == len(list((output / "figures").glob("*.svg")))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "drawings on one page must not share ids"


def test_reference_rows_are_whole_and_of_one_clean_commit():
    rows = pd.read_csv(REFERENCE / "runs.csv")
    assert not rows["dirty"].any() and rows["git"].nunique() == 1
    assert not rows["run_id"].duplicated().any()
    seeds = rows.groupby(["experiment", "model", "norm", "batch_size"])["seed"].nunique()
    assert (seeds >= 5).all(), seeds[seeds < 5]


def test_the_readme_shows_the_verdicts_of_the_reference():
    readme, table = (ROOT / "README.md").read_text(), (REFERENCE / "claims.md").read_text()
    shown = readme.partition("experiments.report -->")[2].partition("<!-- end of verdicts")[0].strip()
    assert shown and shown in table


def test_every_script_and_command_in_the_readme_exists():
    readme = (ROOT / "README.md").read_text()
    for script in re.findall(r"\bbash (scripts/\w+\.sh)", readme):
        assert (ROOT / script).exists(), script
    for module in re.findall(r"python -m (experiments\.\w+)", readme):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module
    for path in re.findall(r"\]\((?!http)([\w./-]+)\)", readme):
        assert (ROOT / path).exists(), path
