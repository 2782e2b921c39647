"""Questions about passages: made of a text by blanking an entity, or read as published; and what is handed over.

Entities of a text are the candidates of their question. Each is a marker, @entity0, @entity1 ..., and what the marker's
number is says nothing: `permuted` gives every question other ones (Hermann et al. 2015, section 2.1).
"""

import functools
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import files, text
from .files import DataError, Source
from .settings import BabiData, ClozeData, EntityCloze, PythonDocsCloze
from .types import Cloze

if TYPE_CHECKING:
    from torch import Generator, Tensor

PADDING, BLANK, UNKNOWN = "<pad>", "@blank", "<unk>"
FIRST = 2  # index of the first candidate: padding is 0, the blank 1
SPLITS = ("train", "val", "test")


class Entity(str):
    """A word, or several in a row, that names something."""


Sentence = list[str]  # words, and entities among them


@dataclass(frozen=True)
class Question:
    words: list[str]
    passage: list[str]
    answer: str


def assemble(settings: ClozeData, arrays: dict[str, np.ndarray], manifest: dict) -> Cloze:
    """Return the splits, their questions at most as many as the settings say."""
    import torch

    vocabulary = json.loads(arrays["vocabulary"].tobytes())
    question_length, candidates = arrays["sizes"].tolist()
    inputs, answers = ({split: arrays[f"{split}_{part}"] for split in SPLITS} for part in ("inputs", "answers"))
    for split, wanted in (("train", settings.train_examples), ("val", settings.val_examples)):
        count = len(answers[split])
        if wanted is not None and wanted > count:
            raise DataError(
                f"{settings.name}: data.{split}_examples={wanted}, and its {split} split has {count} questions; "
                f"nearest: {count}"
            )
        if wanted is not None:  # questions of one text follow each other, so a few of the first would be of few texts
            chosen = np.arange(wanted) if split == "train" else np.arange(wanted) * count // wanted
            inputs[split], answers[split] = inputs[split][chosen], answers[split][chosen]
    passages = inputs["train"].shape[1] - question_length
    return Cloze(
        inputs={split: torch.from_numpy(inputs[split].astype(np.int32)) for split in SPLITS},
        answers={split: torch.from_numpy(answers[split].astype(np.int64)) for split in SPLITS},
        vocabulary=vocabulary,
        candidates=candidates,
        question_length=question_length,
        anonymous=isinstance(settings, EntityCloze),
        manifest=manifest
        | {"counts": {split: len(answers[split]) for split in SPLITS}}
        | {"shape": [len(vocabulary), question_length, passages], "classes": candidates}
        | {"trivial_errors": _trivial_errors(inputs, answers, question_length, candidates)},
    )


def permuted(
    inputs: "Tensor", answers: "Tensor", candidates: int, generator: "Generator | None"
) -> tuple["Tensor", "Tensor"]:
    """Return questions (N, Q + P) and answers (N,) with the markers of each question under other numbers."""
    import torch

    numbers = torch.rand(len(inputs), candidates, generator=generator).argsort(1).to(inputs.device)
    marker = (inputs >= FIRST) & (inputs < FIRST + candidates)
    old = (inputs - FIRST).clamp(0, candidates - 1).long()
    new = numbers.gather(1, old).to(inputs.dtype) + FIRST
    return torch.where(marker, new, inputs), numbers.gather(1, answers[:, None])[:, 0]


def _trivial_errors(inputs: dict, answers: dict, question_length: int, candidates: int) -> dict[str, dict[str, float]]:
    """Return the errors in percent of answers that read nothing, of those candidates that the passage has.

    uniform: one of them, drawn. most_frequent: the one that stands there most often; of several, one is drawn.
    """
    errors: dict[str, dict[str, float]] = {}
    for split in ("val", "test"):
        passages = inputs[split][:, question_length:]
        counts = np.stack([(passages == FIRST + k).sum(1) for k in range(candidates)], 1)
        right = {"uniform": counts > 0, "most_frequent": (counts == counts.max(1, keepdims=True)) & (counts > 0)}
        rows = np.arange(len(passages))
        errors[split] = {
            name: round(float(100 - 100 * (mask[rows, answers[split]] / np.maximum(mask.sum(1), 1)).mean()), 3)
            for name, mask in right.items()
        }
    return errors


# -- Questions ---------------------------------------------------------------------------------------------------------


def make_questions(sentences: list[Sentence], settings: EntityCloze) -> Iterator[Question]:
    """Yield a question for every entity that a sentence shares with the sentences before it, its passage."""
    entities_of = [[word for word in sentence if isinstance(word, Entity)] for sentence in sentences]
    for at in range(settings.sentences, len(sentences)):
        before = slice(at - settings.sentences, at)
        named = dict.fromkeys(itertools.chain.from_iterable(entities_of[before]))
        answers = [entity for entity in named if entity in entities_of[at]]
        entities = dict.fromkeys((*named, *entities_of[at]))
        if not answers or len(entities) > settings.entities or len(sentences[at]) > settings.question_words:
            continue
        marker: dict[str, str] = {entity: f"@entity{number}" for number, entity in enumerate(entities)}
        passage = [marker.get(word, word) for sentence in sentences[before] for word in sentence]
        if len(passage) > settings.passage_words:
            continue
        for answer in answers:
            blanked = {**marker, answer: BLANK}
            yield Question([blanked.get(word, word) for word in sentences[at]], passage, marker[answer])


def encode(splits: dict[str, list[Question]], candidates: list[str], settings: ClozeData) -> dict[str, np.ndarray]:
    """Questions -> padded indices, answers, the packed vocabulary, and (Q, number of candidates) as "sizes".

    The vocabulary: padding, blank, candidates, <unk>, and the most frequent words of the training questions.
    """
    for split, questions in splits.items():
        if not questions:
            raise DataError(f"{settings.name}: the {split} split has no question; give a longer text or other limits")
    known = [PADDING, BLANK, *candidates, UNKNOWN]
    counts: Counter[str] = Counter()
    for question in splits["train"]:
        counts.update(question.words)
        counts.update(question.passage)
    words = [word for word, _ in counts.most_common() if word not in known]
    vocabulary = known + words[: settings.words]
    index_of = {word: index for index, word in enumerate(vocabulary)}
    unknown = index_of[UNKNOWN]
    everything = [question for questions in splits.values() for question in questions]
    Q = max(len(question.words) for question in everything)
    P = max(len(question.passage) for question in everything)
    arrays = {
        "vocabulary": np.frombuffer(json.dumps(vocabulary).encode(), np.uint8),
        "sizes": np.array([Q, len(candidates)]),
    }
    for split, questions in splits.items():
        inputs = np.zeros((len(questions), Q + P), np.min_scalar_type(len(vocabulary)))
        for row, question in zip(inputs, questions, strict=True):
            row[: len(question.words)] = [index_of.get(word, unknown) for word in question.words]
            row[Q : Q + len(question.passage)] = [index_of.get(word, unknown) for word in question.passage]
        arrays[f"{split}_inputs"] = inputs
        arrays[f"{split}_answers"] = np.array([index_of[question.answer] - FIRST for question in questions])
    return arrays


def _markers(settings: EntityCloze) -> list[str]:
    return [f"@entity{number}" for number in range(settings.entities)]


# -- Entities ----------------------------------------------------------------------------------------------------------


def names_of(sentences: Iterable[Sentence]) -> set[str]:
    """Return the words of two letters or more that have a capital, and have it more often than not.

    Those that begin a sentence are not counted: there every word has a capital.
    """
    counts = Counter(word for sentence in sentences for word in sentence[1:])
    return {word for word in counts if len(word) > 1 and word[0].isupper() and counts[word] > counts[word.lower()]}


def with_entities(sentence: Sentence, names: set[str]) -> Sentence:
    """Join names that follow each other into entities."""
    joined: Sentence = []
    for is_name, run in itertools.groupby(sentence, names.__contains__):
        words = list(run)
        joined += [Entity(" ".join(words))] if is_name else words
    return joined


# -- Readers: settings, verified sources -> what the cache stores ------------------------------------------------------


def wikitext2(settings: EntityCloze, sources: list[Source]) -> dict[str, np.ndarray]:
    """Questions of WikiText-2; entities are names in a row. Passages lie within an article and its published split."""
    files = [source.path.read_text(encoding="utf-8") for source in sources]
    articles = {split: list(_articles(file)) for split, file in zip(SPLITS, files, strict=True)}
    names = names_of(sentence for article in articles["train"] for sentence in article)
    splits = {}
    for split, texts in articles.items():
        tagged = ([with_entities(sentence, names) for sentence in article] for article in texts)
        splits[split] = [question for article in tagged for question in make_questions(article, settings)]
    return encode(splits, _markers(settings), settings)


# A line of its own between empty ones; headings within an article have two signs or more on each side.
TITLE = re.compile(r"\n ?\n = (?!=)[^\n]*(?<!=) = \n(?= ?\n)")
HEADING = re.compile(r" (= ){2,}.*( =){2,} ")


def _articles(whole: str) -> Iterator[list[Sentence]]:
    """Yield the sentences of each article, without title and headings."""
    for article in TITLE.split("\n" + whole)[1:]:
        lines = (line.split() for line in article.split("\n") if not HEADING.fullmatch(line))
        yield [sentence for line in lines for sentence in _sentences(line)]


def _sentences(words: list[str]) -> Iterator[Sentence]:
    """Cut behind full stops, question and exclamation marks; what is left at the end is a sentence of its own."""
    start = 0
    for end, word in enumerate(words, start=1):
        if word in (".", "?", "!") or end == len(words):
            yield words[start:end]
            start = end


# A word of the language reference in the marks of code or emphasis, any other word, or another sign.
DOCS_WORD = re.compile(r'(["*])([A-Za-z_][\w.]*?)(?:\(\))?\1|([A-Za-z_]\w*(?:\.\w+)*|\d+|\S)')
# Words that are no entities though they may stand in marks, as "for" and "class": short ones and the most common.
SHORT, COMMON = 3, 30


def python_docs(settings: PythonDocsCloze, sources: list[Source]) -> dict[str, np.ndarray]:
    """Questions of the language reference, cut into equal blocks of sentences that are dealt out to the splits.

    Entities are words that stand in marks somewhere ("yield", *iterator*), but for short and common ones, and names.
    """
    sentences, marked = _documentation()
    names = names_of(sentences)
    lower = Counter(word.lower() for sentence in sentences for word in sentence)
    common = {word for word, _ in lower.most_common(COMMON)}

    def is_entity(word: str) -> bool:
        return (word in marked and len(word) > SHORT and word.lower() not in common) or word in names

    tagged = [[Entity(word) if is_entity(word) else word for word in sentence] for sentence in sentences]
    splits = {
        split: [question for block in blocks for question in make_questions(tagged[block], settings)]
        for split, blocks in text.deal_blocks(settings, len(tagged), "sentences").items()
    }
    return encode(splits, _markers(settings), settings)


@functools.lru_cache
def _documentation() -> tuple[list[Sentence], frozenset[str]]:
    """Return the sentences of the language reference's prose, marks taken off, and the words that had marks."""
    sentences, marked = [], set()
    for paragraph in text.language_reference().split("\n\n"):
        prose = " ".join(paragraph.split())
        if "::=" in prose or ">>>" in prose or prose[-1:] not in (".", ":", "?", "!"):
            continue  # grammar, code, a heading
        for sentence in re.split(r'(?<=[.!?:]) (?=[A-Z"*])', prose):
            found = DOCS_WORD.findall(sentence)
            sentences.append([in_marks or bare for _, in_marks, bare in found])
            marked |= {in_marks for _, in_marks, _ in found if in_marks}
    return sentences, frozenset(marked)


def babi(settings: BabiData, sources: list[Source]) -> dict[str, np.ndarray]:
    """Stories with questions. The candidates are the answers of the training file, in alphabetic order."""
    train, test = (list(_stories(source)) for source in sources[2 * settings.task - 2 : 2 * settings.task])
    if settings.val >= sum(map(len, train)):
        raise DataError(
            f"{settings.name}: data.val={settings.val} leaves nothing of {sum(map(len, train))} questions to train on; "
            "give less"
        )
    val: list[list[Question]] = []
    while sum(map(len, val)) < settings.val:  # whole stories
        val.insert(0, train.pop())
    splits = {
        split: [question for story in stories for question in story]
        for split, stories in zip(SPLITS, (train, val, test), strict=True)
    }
    return encode(splits, sorted({question.answer for question in splits["train"]}), settings)


def _stories(source: Source) -> Iterator[list[Question]]:
    """Yield the questions of each story; a passage is the story so far, without earlier questions."""
    story: list[str] = []
    questions: list[Question] = []
    with files.unpacked(source.path) as stream:
        lines = stream.read().decode().splitlines()
    for line in lines:
        number, _, content = line.partition(" ")
        if number == "1":
            if questions:
                yield questions
            story, questions = [], []
        words, *answer = content.split("\t")
        if answer:
            questions.append(Question(re.findall(r"\w+|\?", words), list(story), answer[0]))
        else:
            story += re.findall(r"\w+|\.", words)
    yield questions
