"""Questions about passages: how they are made, counts as published, and markers whose numbers say nothing."""

import os
from collections import Counter
from pathlib import Path

import pytest
import torch

import data
from data.cloze import BLANK, FIRST, Entity, make_questions, names_of, permuted, with_entities
from data.settings import BabiData, EntityCloze, PythonDocsCloze
from tests.helpers.datasets import SPLITS, needs_files, refusal

SETTINGS = EntityCloze(name="wikitext2_cloze")


def words(loaded: data.Cloze, split: str, n: int) -> tuple[list[str], list[str], str]:
    """Question, passage and answer of one case, without padding."""
    row, Q = loaded.inputs[split][n].tolist(), loaded.question_length
    question, passage = ([loaded.vocabulary[index] for index in part if index] for part in (row[:Q], row[Q:]))
    return question, passage, loaded.vocabulary[FIRST + int(loaded.answers[split][n])]


# --- made of a text ---------------------------------------------------------------------------------------------------


def test_a_sentence_asks_for_every_entity_that_its_passage_names():
    text = [
        [Entity("Ada Lovelace"), "met", Entity("Babbage"), "."],
        ["He", "came", "from", Entity("London"), "."],
        [Entity("Babbage"), "told", Entity("Ada Lovelace"), "of", Entity("Paris"), "and", Entity("Babbage"), "."],
    ]
    settings = EntityCloze(name="wikitext2_cloze", sentences=2)
    first, second = make_questions(text, settings)
    assert (
        first.passage == second.passage == ["@entity0", "met", "@entity1", ".", "He", "came", "from", "@entity2", "."]
    )
    assert (first.answer, second.answer) == ("@entity0", "@entity1")
    assert first.words == f"@entity1 told {BLANK} of @entity3 and @entity1 .".split()
    assert second.words == f"{BLANK} told @entity0 of @entity3 and {BLANK} .".split(), "both, or one would tell"
    for limit in ({"entities": 3}, {"passage_words": 8}, {"question_words": 7}):
        assert not list(make_questions(text, EntityCloze(name="wikitext2_cloze", sentences=2, **limit)))


def test_names_are_words_with_a_capital_more_often_than_not_and_join():
    text = ("of the Royal Navy", "of the Navy is the best The", "The I")
    names = names_of([sentence.split() for sentence in text])
    assert names == {"Royal", "Navy"}
    tagged = with_entities(["The", "Royal", "Navy", "and", "I", "met", "the", "Navy"], names)
    assert tagged == ["The", "Royal Navy", "and", "I", "met", "the", "Navy"]
    assert [word for word in tagged if isinstance(word, Entity)] == ["Royal Navy", "Navy"]


@needs_files
def test_wikitext_has_the_published_articles_and_its_questions():
    root = Path(os.environ["LAYERNORM_DATA"], "wikitext-2")
    articles = [
        len(list(data.cloze._articles((root / f"{name}.txt").read_text("utf-8"))))
        for name in ("train", "valid", "test")
    ]
    assert articles == [600, 60, 60], "Merity et al. 2016, table 1"
    loaded = data.load(SETTINGS)
    assert [len(loaded.answers[split]) for split in SPLITS] == [44_716, 3687, 3632]
    check_questions(loaded)


def check_questions(loaded: data.Cloze) -> None:
    """The answer is a marker of the passage and not of the question, which has a blank; markers come in order."""
    for split in SPLITS:
        for n in range(0, len(loaded.answers[split]), 97):
            question, passage, answer = words(loaded, split, n)
            assert BLANK in question and answer not in question and answer in passage and BLANK not in passage
            markers = [word for word in dict.fromkeys(passage) if word.startswith("@entity")]
            assert markers == [f"@entity{number}" for number in range(len(markers))]


def test_questions_of_the_documentation_need_no_file_and_cross_no_split(monkeypatch):
    monkeypatch.delenv("LAYERNORM_DATA", raising=False)
    loaded = data.load(PythonDocsCloze())
    assert all(len(loaded.answers[split]) > 100 for split in SPLITS)
    assert loaded.candidates == 20 and len(loaded.vocabulary) == 3 + 20 + 500
    check_questions(loaded)
    passages = {
        split: {tuple(row[loaded.question_length :].tolist()) for row in loaded.inputs[split]} for split in SPLITS
    }
    assert not passages["train"] & (passages["val"] | passages["test"]) and not passages["val"] & passages["test"]
    assert "test_blocks=[20]" in refusal(PythonDocsCloze(test_blocks=[20]))
    assert "has no question" in refusal(PythonDocsCloze(question_words=1))
    few = data.load(PythonDocsCloze(train_examples=50, val_examples=10))
    assert few.manifest["counts"] == loaded.manifest["counts"] | {"train": 50, "val": 10}
    assert "nearest: " in refusal(PythonDocsCloze(val_examples=10_000))


# --- bAbI -------------------------------------------------------------------------------------------------------------


@needs_files
@pytest.mark.parametrize(("task", "vocabulary"), [(1, 21), (2, 35)])
def test_babi_has_the_published_counts(task, vocabulary):
    loaded = data.load(BabiData(task=task))
    assert [len(loaded.answers[split]) for split in SPLITS] == [9000, 1000, 1000], "10,000 and 1,000"
    assert loaded.candidates == 6 and len(loaded.vocabulary) == 3 + vocabulary and not loaded.anonymous
    if task == 1:
        story = "Mary moved to the bathroom . John went to the hallway ."
        assert words(loaded, "train", 0) == (["Where", "is", "Mary", "?"], story.split(), "bathroom")
    assert "leaves nothing" in refusal(BabiData(task=task, val=10_000))


# --- markers ----------------------------------------------------------------------------------------------------------


def test_other_numbers_leave_the_question_the_same():
    loaded = data.load(PythonDocsCloze())
    inputs, answers = loaded.inputs["val"], loaded.answers["val"]
    renumbered, moved = permuted(inputs, answers, loaded.candidates, torch.Generator().manual_seed(3))
    last = FIRST + loaded.candidates
    for row, new, answer, new_answer in zip(inputs, renumbered, answers, moved, strict=True):
        pairs = set(zip(row.tolist(), new.tolist(), strict=True)) | {(FIRST + int(answer), FIRST + int(new_answer))}
        assert len(pairs) == len({old for old, _ in pairs}) == len({after for _, after in pairs}), "one to one"
        assert all((FIRST <= old < last and FIRST <= after < last) or old == after for old, after in pairs)
    assert moved.bincount(minlength=loaded.candidates).min() > 0 and not torch.equal(moved, answers)


def test_trivial_errors_are_those_of_counting():
    loaded = data.load(PythonDocsCloze())
    for split in ("val", "test"):
        right = {"uniform": 0.0, "most_frequent": 0.0}
        for n in range(len(loaded.answers[split])):
            _, passage, answer = words(loaded, split, n)
            counts = Counter(word for word in passage if word.startswith("@entity"))
            right["uniform"] += 1 / len(counts)
            best = [marker for marker, count in counts.items() if count == max(counts.values())]
            right["most_frequent"] += (answer in best) / len(best)
        expected = {name: 100 - 100 * total / len(loaded.answers[split]) for name, total in right.items()}
        assert loaded.manifest["trivial_errors"][split] == pytest.approx(expected, abs=1e-3)
