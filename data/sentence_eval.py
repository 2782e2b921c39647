"""The sets by which frozen features of sentences are judged: SICK, MSRP, MR, CR and SUBJ, as published.

They are no data to train on: `trainer.measure=[transfer]` reads them, below the same folder as other sets.
"""

import re
from dataclasses import dataclass

from . import files
from .files import Source
from .settings import DataSettings

NAME = "sentence_eval"
FILES = {  # path below data.root -> sha256 of content
    "sentence_eval/sick/SICK_train.txt": "266cf8047149bd1d68138dd30439f3122bff30069740ac6705bb6197d9f1b48e",
    "sentence_eval/sick/SICK_trial.txt": "5a88cfb62f8c6bd2a3cce0f2421ba2cb8c2be5ab4a800f6f01e2c64aafb7db56",
    "sentence_eval/sick/SICK_test_annotated.txt": "2b8aa806658d6fc23c6824c83776c2d4fee7556000817b5ec0f982861413b7d0",
    "sentence_eval/msrp/msr_paraphrase_train.txt": "f3d26d73bb3510032f80836e2e81cf32c71863f8dd6151aa80a125c2c799a557",
    "sentence_eval/msrp/msr_paraphrase_test.txt": "51a1f197d8786712d2f0d97700f5be653b7488a96cde00e158159350d23e3d90",
    "sentence_eval/mr/rt-polarity.pos": "c2dc6b2f55bcf725725372916287cc3f8f9b19402edaa9167de5287cb3ade421",
    "sentence_eval/mr/rt-polarity.neg": "614274f81185a850e5a88d533d4679f916d6f62e9af6f0b4ec71fb94bf466ea5",
    "sentence_eval/cr/custrev.pos": "15eeb0b9424043bb3755488e2d8ed97bdaeba464a5c230f213bad075125d2192",
    "sentence_eval/cr/custrev.neg": "8f29d7fa39f9862764b71f36b193f0674e0056287ffc5bf170edf6db42cc8f83",
    "sentence_eval/subj/quote.tok.gt9.5000": "cc5d85345896d3fa44ca6b826b108418030977f958a004eb97860043b3b37624",
    "sentence_eval/subj/plot.tok.gt9.5000": "5ddc9b44dc60d64d651347fcd7bdd489b0c70661e3f768215c16eea36f51204a",
}
GET = "put SICK, MSRP, MR, CR and SUBJ into sentence_eval/ below data.root as data/README.md says"


@dataclass(frozen=True)
class Scored:
    """Pairs of sentences with a score each, or with 0 or 1."""

    first: list[str]
    second: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Labelled:
    """Sentences of two classes, 1 and 0."""

    sentences: list[str]
    labels: list[int]


@dataclass(frozen=True)
class SentenceEval:
    """All five sets.

    sick:         "train", "trial", "test" -> pairs with their relatedness, 1 to 5 (Marelli et al. 2014)
    msrp:         "train", "test" -> pairs, 1 where one paraphrases the other (Dolan et al. 2004)
    mr, cr, subj: film reviews and product reviews, 1 where positive; sentences on films, 1 where subjective
    """

    sick: dict[str, Scored]
    msrp: dict[str, Scored]
    mr: Labelled
    cr: Labelled
    subj: Labelled


def check(root: str | None) -> list[Source]:
    """Find and verify the files below the folder, else below LAYERNORM_DATA. Raises DataError."""
    return files.verified(DataSettings(name=NAME, root=root), FILES, GET)


def load(root: str | None) -> SentenceEval:
    """Read all sets. Raises DataError where a file is missing or not the published one."""
    texts = {source.file: _text(source) for source in check(root)}

    def rows(file: str) -> list[list[str]]:
        """Return the columns of each line but the first; quotation marks mean nothing."""
        lines = texts[f"{NAME}/{file}"].removesuffix("\n").split("\n")
        return [line.rstrip("\r").split("\t") for line in lines[1:]]

    def scored(file: str, first: int, second: int, score: int) -> Scored:
        columns = list(zip(*rows(file), strict=True))
        return Scored(list(columns[first]), list(columns[second]), [float(value) for value in columns[score]])

    def labelled(positive: str, negative: str) -> Labelled:
        sentences, labels = [], []
        for label, file in ((1, positive), (0, negative)):
            spoken = [joined(line.strip()) for line in texts[f"{NAME}/{file}"].split("\n") if line.strip()]
            sentences += spoken
            labels += [label] * len(spoken)
        return Labelled(sentences, labels)

    sick = {"train": "train", "trial": "trial", "test": "test_annotated"}
    return SentenceEval(
        sick={split: scored(f"sick/SICK_{file}.txt", 1, 2, 3) for split, file in sick.items()},
        msrp={split: scored(f"msrp/msr_paraphrase_{split}.txt", 3, 4, 0) for split in ("train", "test")},
        mr=labelled("mr/rt-polarity.pos", "mr/rt-polarity.neg"),
        cr=labelled("cr/custrev.pos", "cr/custrev.neg"),
        subj=labelled("subj/quote.tok.gt9.5000", "subj/plot.tok.gt9.5000"),
    )


def _text(source: Source) -> str:
    with files.unpacked(source.path) as stream:
        return stream.read().decode("utf-8-sig")


def joined(sentence: str) -> str:
    """Join what a tokeniser has cut off at an apostrophe: don 't, it 's."""
    return re.sub(r"(?<=\w) '(?=(?:t|s|ve|m|re|d|ll)\b)", "'", sentence)
