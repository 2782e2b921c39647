"""README.md and results/README.md: short enough, and their generated parts are those of the committed results."""

import json
from pathlib import Path

import pytest

from experiments.benchmark import readme as benchmark
from experiments.benchmark.results import read
from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS, REFERENCE
from experiments.report.answers import SENTENCES, Clause, answers
from experiments.report.readme import (
    FINDINGS_END,
    FINDINGS_START,
    VERDICTS_END,
    VERDICTS_START,
    deciding,
    findings,
    replace_block,
    verdicts,
)
from experiments.report.replication import beside
from experiments.report.tables import counts
from experiments.sweeps.grid import base
from tests.helpers.commands import ROOT

README, RESULTS = ROOT / "README.md", ROOT / "results" / "README.md"
PROFILES = [path.parent for path in sorted(REFERENCE.glob("*/claims.json"))]


def between(page: Path, start: str, end: str) -> str:
    _, started, rest = page.read_text().partition(start)
    text, ended, _ = rest.partition(end)
    assert started and ended, f"{page.name} lacks {start} or {end}"
    return text.strip()


# --- the pages --------------------------------------------------------------------------------------------------------


def test_the_readme_is_read_in_one_sitting():
    text = README.read_text()
    assert len(text.split()) <= 1400
    assert text.splitlines().index("```") < 40, "the first command comes late"


def test_the_generated_parts_are_those_of_the_committed_results():
    assert between(README, FINDINGS_START, FINDINGS_END) == findings(REFERENCE)
    assert between(RESULTS, VERDICTS_START, VERDICTS_END) == verdicts(REFERENCE)
    times = read(REFERENCE / "benchmark")
    assert between(README, benchmark.START, benchmark.END) == benchmark.speed_table(times)


def test_every_claim_of_every_profile_stands_in_the_results():
    shown = between(RESULTS, VERDICTS_START, VERDICTS_END)
    for profile in PROFILES:
        claims = json.loads((profile / "claims.json").read_text())["claims"]
        assert shown.count("<sub>") >= len(claims) > 15
        assert f"reference/{profile.name}/claims.md" in shown


# --- how they are generated -------------------------------------------------------------------------------------------


def outcome(verdict: str, where: str, numbers: str = "+0.500 [+0.400, +0.600] bits (x)") -> dict:
    return {
        "verdict": verdict,
        "where": where,
        "label": "LN - NONE",
        "pairs": 5,
        "diverged": 0,
        "interval": {"low": 0.4},
        "why": f"{numbers}: because",
    }


def test_every_clause_is_about_a_claim_that_exists():
    names = [path.stem for path in (CONFIGS / "experiment").glob("*.yaml")]
    claims = {(name, claim.id) for name in names for claim in base(name, "standard").experiment.claims}
    assert {(clause.experiment, clause.claim) for sentence in SENTENCES for clause in sentence.clauses} <= claims


def test_a_clause_names_every_contrast_under_its_verdict_with_its_numbers():
    clause = Clause("e", "c", "lower in the {of}", "higher in the {of}", "open for the {of}")
    outcomes = [
        outcome("contradicted", "rnn, batch 4"),
        outcome("reproduced", "lstm"),
        outcome("reproduced", "gru", "0.70 [0.60, 0.80] of the steps (-0.36 in logarithms)"),
        {**outcome("not resolved", ""), "interval": None},
    ]
    text = (
        "lower in the LSTM (+0.500 [+0.400, +0.600] bits) and GRU (0.70 [0.60, 0.80] of the steps), "
        "higher in the tanh RNN (+0.500 [+0.400, +0.600] bits), open for the LN - NONE (no interval)"
    )
    assert clause.text({"outcomes": outcomes}) == text
    assert clause.text({"outcomes": outcomes, "flips": True}) == f"{text} †"


def test_a_clause_tells_what_is_too_small_from_what_is_open():
    clause = Clause("e", "c", "lower in the {of}", "higher in the {of}", "open for the {of}")
    lstm, small, unclear = outcome("reproduced", "lstm"), outcome("not resolved", "rnn"), outcome("not resolved", "gru")
    small["why"] = "+0.010 [+0.004, +0.016] bits: as claimed, but smaller than 0.016 (p = 0.01)"
    of = {"lstm": "LSTM (+0.500 [+0.400, +0.600] bits)", "gru": "GRU (+0.500 [+0.400, +0.600] bits)"}
    text = (
        f"lower in the {of['lstm']}, by too little to count in the tanh RNN (+0.010 [+0.004, +0.016] bits), "
        f"open for the {of['gru']}"
    )
    assert clause.text({"outcomes": [lstm, small, unclear]}) == text
    without = {**outcome("not resolved", "lstm"), "why": "+0.001 [-0.004, +0.005] bits: a difference of 1 is ruled out"}
    ruled_out = "that lower in the LSTM (+0.001 [-0.004, +0.005] bits) is ruled out"
    assert clause.text({"outcomes": [without]}) == ruled_out
    assert clause.text({"outcomes": [small, without]}).endswith(
        ", ruled out in the LSTM (+0.001 [-0.004, +0.005] bits)"
    )
    alone = "lower in the tanh RNN (+0.010 [+0.004, +0.016] bits), by too little to count"
    assert clause.text({"outcomes": [small]}) == alone


def test_a_sentence_leaves_out_claims_that_a_profile_lacks():
    claim = {"experiment": "conv_gain", "claim": "ln_loses_to_bn_conv", "outcomes": [outcome("reproduced", "cnn")]}
    assert answers([claim]) == [
        ("CNNs at batch 128", "LN loses to BN in the plain CNN (+0.500 [+0.400, +0.600] bits).")
    ]
    ours = {**claim, "claim": "gn_beats_ln_conv"}
    other = {**claim, "claim": "gn_loses_to_bn_conv"}
    for of, expected in (
        ([ours, other], "GN is ahead of LN {cnn}; GN is behind BN {cnn}."),
        ([ours, {**other, "profile": "quick"}], "GN is ahead of LN {cnn}; `quick`: GN is behind BN {cnn}."),
        ([{**ours, "profile": "quick"}, other], "GN is behind BN {cnn}; `quick`: GN is ahead of LN {cnn}."),
        (
            [{**one, "profile": "quick"} for one in (ours, other)],
            "`quick`: GN is ahead of LN {cnn}; GN is behind BN {cnn}.",
        ),
    ):
        assert answers(of) == [("The others", expected.format(cnn="in the plain CNN (+0.500 [+0.400, +0.600] bits)"))]
    waiting = {**claim, "claim": "ln_helps_conv", "outcomes": [{**outcome("not resolved", "cnn"), "pairs": 0}]}
    assert answers([waiting]) == [] and len(answers([claim, waiting])) == 1


def test_findings_are_of_the_largest_profile_that_has_runs_for_them(tmp_path):
    about = {"experiment": "conv_gain", "verdict": "reproduced", "stated": "a paper", "identity": False}
    for profile, pairs in (("quick", 5), ("standard", 0)):
        (tmp_path / profile).mkdir()
        claims = [
            {**about, "claim": "ln_loses_to_bn_conv", "outcomes": [{**outcome("reproduced", "cnn"), "pairs": pairs}]},
            {**about, "claim": "gn_beats_ln_conv", "outcomes": [outcome("reproduced", "cnn", f"{profile} (x)")]},
        ]
        (tmp_path / profile / "claims.json").write_text(json.dumps({"claims": claims}))
        (tmp_path / profile / "provenance.json").write_text(json.dumps({"runs": 10}))
    text = findings(tmp_path)
    assert "`quick`: LN loses to BN in the plain CNN (+0.500 bits)." in text
    assert "** GN is ahead of LN in the plain CNN (standard)." in text
    assert "2 reproduced" in text and "1 reproduced; 1 claim waits for its runs" in text


def test_counts_keep_identities_and_questions_of_ours_apart():
    def claim(verdict: str, stated: str | None = "a paper", identity: bool = False, pairs: int = 5) -> dict:
        outcomes = [{"pairs": pairs, "diverged": 0}]
        return {"verdict": verdict, "stated": stated, "identity": identity, "outcomes": outcomes}

    claims = [claim("reproduced"), claim("mixed"), claim("contradicted", None), claim("reproduced", identity=True)]
    claims.append(claim("not resolved", pairs=0))
    assert counts(claims) == (
        "Of 2 claims of the papers: 1 reproduced, 1 mixed; of 1 questions of our own: 1 contradicted; "
        "1 of 1 identities hold; 1 claim waits for its runs."
    )


def test_verdicts_that_flip_in_a_replication_are_named(tmp_path):
    here = {("e", str(k)): "reproduced" for k in range(4)}
    verdicts = ["reproduced", "mixed", "contradicted", "reproduced"]  # the last of an identity, which does not count
    outcomes = [{"pairs": 5, "diverged": 0}]
    there = [
        {"experiment": "e", "claim": str(k), "verdict": verdict, "outcomes": outcomes, "identity": k == 3}
        for k, verdict in enumerate(verdicts)
    ]
    folder = tmp_path / "quick_seeds40"
    folder.mkdir()
    (folder / "claims.json").write_text(json.dumps({"claims": there}))
    (folder / "provenance.json").write_text(json.dumps({"first_seed": 40, "processor": ["A", "B"]}))
    (found,) = beside(tmp_path / "quick", here)
    assert found.folder == "quick_seeds40" and found.reversed == [("e", "2")]
    assert found.sentence() == (
        "seeds 40 and up, A, B: 1 of 3 empirical verdicts are the same, 1 reversed; these differ: "
        "e/1 (reference reproduced, replication mixed), e/2 (reference reproduced, replication contradicted)."
    )
    copied = tmp_path / "quick_copy"
    copied.mkdir()
    (copied / "claims.json").write_text(json.dumps({"claims": there}))
    (copied / "provenance.json").write_text("{}")
    assert len(beside(tmp_path / "quick", here)) == 1, "a folder of before replications were is none"
    assert beside(tmp_path / "standard", here) == [], "a profile that has not been repeated"


def test_the_contrast_that_a_verdict_depends_on_is_shown():
    def outcome(verdict: str, estimate: float) -> dict:
        return {"verdict": verdict, "interval": {"estimate": estimate, "low": estimate - 1, "high": estimate + 1}}

    three = [outcome("reproduced", -3.0), outcome("contradicted", 2.0), outcome("contradicted", 4.0)]
    assert deciding("contradicted", three)["interval"]["estimate"] == 4.0
    assert deciding("reproduced", [outcome("reproduced", -3.0), outcome("reproduced", -2.0)]) == (
        outcome("reproduced", -2.0)
    )


def test_a_block_is_replaced_and_nothing_else(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<start>\nold\n<end>\nafter\n")
    for _ in range(2):
        replace_block(page, "<start>", "<end>", "new")
        assert page.read_text() == "before\n<start>\n\nnew\n\n<end>\nafter\n"
    page.write_text("<start> without an end")
    with pytest.raises(ConfigError, match=r"README\.md lacks '<start>' or '<end>'"):
        replace_block(page, "<start>", "<end>", "new")
    assert page.read_text() == "<start> without an end"
