"""The committed results, rebuilt from their rows alone."""

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments.report import tables
from experiments.runs.outputs import RECORD
from tests.helpers.commands import ROOT, run

REFERENCES = sorted(path.parent for path in (ROOT / "results" / "reference").glob("*/runs.csv"))


@pytest.fixture(scope="module", params=REFERENCES, ids=lambda path: path.name)
def rebuilt(request, tmp_path_factory):
    """(committed folder, the same rebuilt from its rows, what was printed)"""
    output = tmp_path_factory.mktemp("report")
    profile, first_seed = profile_of(request.param)
    seeds = f"profile.first_seed={first_seed}"
    result = run("experiments.report", f"profile={profile}", seeds, f"rows={request.param}", f"output={output}")
    assert result.returncode == 0, result.stderr
    return request.param, output, result.stdout


def profile_of(reference: Path) -> tuple[str, int]:
    """(profile, first seed) of committed results; quick_seeds40 repeats quick."""
    return reference.name.partition("_")[0], json.loads((reference / "provenance.json").read_text())["first_seed"]


def written(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_rows_alone_rebuild_every_file(rebuilt):
    reference, output, _ = rebuilt
    names = [name for name in written(reference) if name != RECORD]
    assert names == [name for name in written(output) if name != RECORD]
    for name in names:
        assert (output / name).read_text() == (reference / name).read_text(), f"{name} drifted from its rows"


def test_reference_rows_are_whole_and_of_clean_commits(rebuilt):
    reference, _, _ = rebuilt
    rows = pd.read_csv(reference / "runs.csv")
    assert not rows["dirty"].any() and not rows["run_id"].duplicated().any()
    assert "are not consistent" not in (reference / "claims.md").read_text()
    claims = json.loads((reference / "claims.json").read_text())["claims"]
    judged = [outcome for claim in claims if tables.has_runs(claim) for outcome in claim["outcomes"]]
    lacking = [one["why"] for one in judged if "lack a result" in one["why"] and not one["diverged"]]
    assert not lacking, lacking
