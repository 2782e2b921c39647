"""What linear models read off frozen features of sentences: against explicit sums, scipy and sets that are made up."""

import json

import numpy as np
import pytest
import scipy.stats
import torch

from data import sentence_eval
from data.pairs import words
from data.sentence_eval import Scored
from experiments.cli.compose import hydra_configs
from experiments.config.errors import ConfigError
from experiments.config.schema import Trainer
from experiments.runs.folder import RunFolder
from experiments.runs.run import Run
from experiments.runs.schedule import Schedule
from experiments.training.check import check
from experiments.training.load import Trained, load
from experiments.training.transfer import Features, correlation, cross_validated, distributions, measure, sick
from tests.helpers.configs import composed, trained
from tests.helpers.sentence_eval import SIZES, write
from tests.helpers.tiny_runs import MODELS

TINY = [*MODELS["skip_thoughts-ln"], "trainer.steps=8", "trainer.measure=[transfer]", "wandb.mode=disabled"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder below which the sets lie."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("data")
        write(folder, patch)
        patch.setenv("LAYERNORM_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module")
def run(files, tmp_path_factory) -> Trained:
    runs_dir = tmp_path_factory.mktemp("runs")
    outcome = trained(*TINY, "trainer.evaluations=8", f"runs_dir={runs_dir}")
    assert outcome["status"] == "done", outcome
    return load(RunFolder(runs_dir, outcome["run_id"]))


def test_a_score_is_shared_between_two_grades_and_is_their_mean():
    scores = np.array([1.0, 2.25, 5.0, 3.9])
    rows, grades, weights = distributions(scores)
    for n, expected in enumerate(({1: 1.0}, {2: 0.75, 3: 0.25}, {5: 1.0}, {3: 0.1, 4: 0.9})):
        of_row = rows == n
        assert dict(zip(grades[of_row].tolist(), weights[of_row], strict=True)) == pytest.approx(expected)
        assert (grades[of_row] * weights[of_row]).sum() == pytest.approx(scores[n])


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 50), rng.integers(0, 9, 50) + rng.normal(size=50)
    ranks = scipy.stats.rankdata
    assert correlation(a, b) == pytest.approx(scipy.stats.pearsonr(a, b).statistic)
    assert correlation(ranks(a), ranks(b)) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert correlation(np.ones(5), np.arange(5)) == 0


def test_accuracy_over_the_folds_is_all_of_a_separable_set_and_half_of_noise():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    noise = rng.normal(size=(200, 5))
    assert cross_validated(noise + 9 * y[:, None], y) == 100
    assert 30 < cross_validated(noise, y) < 70


def test_scores_that_the_features_hold_are_found_again():
    """Features (x, 1 - x) of a first sentence beside (0, 0): |u - v| says what the score is."""
    rng = np.random.default_rng(0)
    splits, states = {}, {"empty": [0.0, 0.0]}
    for split, count in (("train", 300), ("trial", 60), ("test", 60)):
        scores = rng.uniform(1, 5, count)
        names = [f"{split} {n}" for n in range(count)]
        states |= {name: [score / 5, 1 - score / 5] for name, score in zip(names, scores, strict=True)}
        splits[split] = Scored(names, ["empty"] * count, scores.tolist())
    features = Features.__new__(Features)
    features.row_of = {name: row for row, name in enumerate(states)}
    features.states = np.array(list(states.values()), np.float32)
    found = sick(features, splits)
    assert found["sick_r"] > 0.97 and found["sick_rho"] > 0.97 and found["sick_mse"] < 0.3


def test_features_are_the_states_of_each_sentence_by_itself(run):
    pairs, task = sentence_eval.load(None).sick["test"], run.task()
    features = Features(run.model, task, [*pairs.first, *pairs.second])
    index_of = {word: n for n, word in enumerate(task.vocabulary)}
    for sentence, row in zip(pairs.first, features.of(pairs.first), strict=True):
        alone = run.model.encode(torch.tensor([[index_of.get(word, 1) for word in words(sentence)]]))[0]
        np.testing.assert_allclose(row, alone.detach().numpy(), rtol=1e-4, atol=1e-6)
    u, v = (features.of(side) for side in (pairs.first, pairs.second))
    assert np.array_equal(features.of_pairs(pairs), np.concatenate((abs(u - v), u * v), 1))


def test_a_run_measures_at_its_quarters_and_the_summary_has_the_last(run):
    rows = {row["step"]: {k: v for k, v in row.items() if k.startswith("transfer/")} for row in run.folder.metrics()}
    assert [step for step, row in rows.items() if row] == [2, 4, 6, 8]
    last = {key: value for key, value in run.folder.summary.items() if key.startswith("transfer/")}
    assert last == rows[8] and len(last) == 8 and last["transfer/mr"] > 60
    assert measure(run.model, run.task()) == last, "of the weights alone"


@pytest.mark.parametrize(
    ("steps", "evaluations", "expected"),
    [(1000, 20, {250, 500, 750, 1000}), (10, 3, {3, 7, 10}), (7, 1, {7}), (3, 50, {1, 2, 3}), (None, 4, set())],
)
def test_quarters_are_the_first_evaluations_at_or_behind_them(steps, evaluations, expected):
    assert Schedule.of(Trainer(evaluations=evaluations), steps).quarters == expected


def test_tuning_measures_nothing_of_it(files, tmp_path):
    outcome = trained(*TINY, "stage=tune", "trainer.evaluations=1", f"runs_dir={tmp_path}")
    assert outcome["status"] == "done", outcome
    assert "transfer/" not in json.dumps(RunFolder(tmp_path, outcome["run_id"]).summary)


def test_without_the_sets_a_run_is_refused_in_one_line_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERNORM_DATA", str(tmp_path))
    with pytest.raises(ConfigError) as refused, hydra_configs():
        check(Run.of(composed(*TINY, f"runs_dir={tmp_path / 'runs'}")))
    message = str(refused.value)
    for part in ("sentence_eval", "SICK_train.txt", str(tmp_path), "data/README.md", "trainer.measure=[]"):
        assert part in message
    assert "\n" not in message and not (tmp_path / "runs").exists()


def test_what_a_tokeniser_has_cut_off_is_joined_again(files):
    assert sentence_eval.joined("don 't it 's ' tis i 'll say 'so'") == "don't it's ' tis i'll say 'so'"
    sets = sentence_eval.load(None)
    assert [len(each.scores) for each in sets.sick.values()] == [
        SIZES[f"SICK_{s}"] for s in ("train", "trial", "test_annotated")
    ]
    assert all(second.startswith('"') for second in sets.msrp["test"].second), "a quotation mark is a character"
