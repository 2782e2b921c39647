"""What linear models read off frozen features of sentences: SICK, MSRP, MR, CR and SUBJ, as in figure 3 and table 3.

The features of a sentence are its state h in evaluation mode, of two sentences u and v, |u - v| and u * v (Kiros et al.
2015, section 3). All are standardised with the training part's mean and deviation. A logistic regression's penalty is
chosen on sentences that neither train nor test it.
"""

from typing import Any

import numpy as np
import scipy.stats
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from data import sentence_eval
from data.pairs import words
from data.sentence_eval import Scored
from data.sentences import encoded
from experiments.training.tasks import SentencePrediction

PENALTIES = (0.001, 0.01, 0.1, 1.0)  # C, from strong to weak
FOLDS = 10
FOLD_SEED = 0  # of the folds, which nobody published
GRADES = np.arange(1, 6)  # of SICK's relatedness
CHUNK = 500  # sentences that are encoded at a time


def measure(model: Any, task: SentencePrediction) -> dict[str, float]:
    """Return correlations and error of SICK, F1 of MSRP and accuracies in percent. Raises DataError."""
    sets = sentence_eval.load(task.root)
    labelled = {"mr": sets.mr, "cr": sets.cr, "subj": sets.subj}
    pairs = [*sets.sick.values(), *sets.msrp.values()]
    with threadpool_limits(torch.get_num_threads()):
        h = Features(model, task, [s for each in pairs for s in (*each.first, *each.second)])
        found = {**sick(h, sets.sick), **msrp(h, sets.msrp)}
        for name, each in labelled.items():
            h = Features(model, task, each.sentences)
            found[name] = cross_validated(h.of(each.sentences), np.array(each.labels))
    return {f"transfer/{name}": float(value) for name, value in found.items()}


class Features:
    """The states of sentences."""

    @torch.no_grad()
    def __init__(self, model: Any, task: SentencePrediction, sentences: list[str]):
        model.eval()
        self.row_of = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
        numbers = encoded([words(sentence) for sentence in self.row_of], task.vocabulary)
        order = (numbers != 0).sum(1).argsort(stable=True)  # sentences of about one length at a time
        device = task.middles["val"].device
        states = torch.cat([model.encode(numbers[chunk].to(device)).cpu() for chunk in order.split(CHUNK)])
        self.states = states[order.argsort()].numpy()

    def of(self, sentences: list[str]) -> np.ndarray:
        """Return h, (N, H)."""
        return self.states[[self.row_of[sentence] for sentence in sentences]]

    def of_pairs(self, pairs: Scored) -> np.ndarray:
        """Return |u - v| and u * v, (N, 2 H)."""
        u, v = self.of(pairs.first), self.of(pairs.second)
        return np.concatenate((np.abs(u - v), u * v), 1)


def classifier(C: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000))


def cross_validated(X: np.ndarray, y: np.ndarray) -> float:
    """Return the accuracy in percent over FOLDS folds; the fold before the one that tests chooses the penalty."""
    folds = [test for _, test in StratifiedKFold(FOLDS, shuffle=True, random_state=FOLD_SEED).split(X, y)]
    correct = 0
    for k, test in enumerate(folds):
        others = [fold for fold in folds if fold is not test]
        choosing, rest = folds[k - 1], np.concatenate([fold for fold in others if fold is not folds[k - 1]])
        scores = {C: classifier(C).fit(X[rest], y[rest]).score(X[choosing], y[choosing]) for C in PENALTIES}
        train = np.concatenate(others)
        best = classifier(max(scores, key=scores.__getitem__)).fit(X[train], y[train])
        correct += int((best.predict(X[test]) == y[test]).sum())
    return 100.0 * correct / len(y)


def msrp(h: Features, splits: dict[str, Scored]) -> dict[str, float]:
    """Return accuracy and F1 in percent on the test split; cross-validation on train chooses the penalty."""
    X, X_test = (h.of_pairs(splits[split]) for split in ("train", "test"))
    y, y_test = (np.array(splits[split].scores) for split in ("train", "test"))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=FOLD_SEED)
    scores = {C: cross_val_score(classifier(C), X, y, cv=folds).mean() for C in PENALTIES}
    predicted = classifier(max(scores, key=scores.__getitem__)).fit(X, y).predict(X_test)
    return {"msrp": 100.0 * (predicted == y_test).mean(), "msrp_f1": 100.0 * f1_score(y_test, predicted)}


def sick(h: Features, splits: dict[str, Scored]) -> dict[str, float]:
    """Return Pearson's r, Spearman's rho and the mean squared error on test; the error on trial chooses the penalty."""
    X, rows, grades, weights = h.of_pairs(splits["train"]), *distributions(np.array(splits["train"].scores))
    scaler = StandardScaler().fit(X)

    def predictions(C: float) -> dict[str, np.ndarray]:
        model = LogisticRegression(C=C, max_iter=1000).fit(scaler.transform(X)[rows], grades, sample_weight=weights)
        return {
            split: model.predict_proba(scaler.transform(h.of_pairs(splits[split]))) @ model.classes_
            for split in ("trial", "test")
        }

    by_penalty = [predictions(C) for C in PENALTIES]
    trial = np.array(splits["trial"].scores)
    best = min(by_penalty, key=lambda predicted: ((predicted["trial"] - trial) ** 2).mean())["test"]
    expected = np.array(splits["test"].scores)
    return {
        "sick_r": correlation(best, expected),
        "sick_rho": correlation(scipy.stats.rankdata(best), scipy.stats.rankdata(expected)),
        "sick_mse": ((best - expected) ** 2).mean(),
    }


def distributions(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, grades and weights of distributions over 1 to 5 whose means are the scores (Tai et al. 2015).

    p(k) = max(0, 1 - |y - k|): a score between two grades is shared between them. A softmax is trained towards it by a
    row for each grade that has a share, weighted by that.
    """
    p = np.maximum(0.0, 1.0 - np.abs(scores[:, None] - GRADES))
    rows, columns = p.nonzero()
    return rows, GRADES[columns], p[rows, columns]


def correlation(a, b) -> float:
    """Return Pearson's r; 0 where one of them does not vary."""
    a, b = (np.asarray(values, float) - np.mean(values) for values in (a, b))
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale else 0.0
