"""What `data.load` hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Text:
    """A text, whole and in memory.

    tokens:     "train", "val", "test" -> (symbols,) int64, indices into `vocabulary`
    row_length: None for running text; else the tokens are rows of this many symbols, and nothing crosses rows
    manifest:   where it came from, how it was prepared, how many symbols a split has, and, but for words, the
                vocabulary; JSON-serialisable
    """

    tokens: dict[str, Tensor]
    vocabulary: list[str]
    unit: str
    row_length: int | None
    manifest: dict


@dataclass(frozen=True)
class Binary:
    """Images of zeros and ones, whole and in memory.

    images:   "train", "val", "test" -> (N, 1, H, W) float32, 0 or 1
    manifest: as for Text, and an image's shape
    """

    images: dict[str, Tensor]
    manifest: dict


@dataclass(frozen=True)
class Strokes:
    """Pen trajectories and the texts that they show, whole and in memory.

    steps:    "train", "val", "test" -> trajectories (points, 3) float32: dx, dy (downwards) in units of their standard
              deviation within train's strokes, and 1 where the pen leaves the paper after the point, else 0
    texts:    the same keys -> of each trajectory its symbols (symbols,) int64, indices into `vocabulary`
    manifest: as for Text, that deviation "sd", a point's shape and the vocabulary's size; "baseline", nats per point of
              one Gaussian for all steps and one probability of lifting the pen, by split
    """

    steps: dict[str, list[Tensor]]
    texts: dict[str, list[Tensor]]
    vocabulary: list[str]
    manifest: dict


@dataclass(frozen=True)
class Images:
    """Images, whole and in memory.

    images:   "train", "val", "test" -> (N, C, H, W) float32, standardised with train's mean and sd of each channel
    labels:   the same keys -> (N,) int64 in 0..num_classes-1
    manifest: as for Text, that mean and sd, an image's shape and the number of classes
    """

    images: dict[str, Tensor]
    labels: dict[str, Tensor]
    num_classes: int
    manifest: dict


@dataclass(frozen=True)
class Pairs:
    """Sentences that belong together, whole and in memory.

    sentences:  "train", "val", "test" -> (N, K, T) int64: K >= 2 sentences of each of N items, as captions of an image,
                indices into `vocabulary`, 0 behind a sentence's end
    vocabulary: the words of all sides; <pad> is number 0, <unk> number 1
    manifest:   as for Text, and the share of <unk> in each split
    """

    sentences: dict[str, Tensor]
    vocabulary: list[str]
    manifest: dict


@dataclass(frozen=True)
class Sentences:
    """Texts sentence by sentence, whole and in memory.

    sentences:  "train", "val", "test" -> (S, T) int64: sentences in order, indices into `vocabulary`, 0 behind a
                sentence's end
    middles:    the same keys -> (N,) int64: the rows whose neighbours in their text are the rows before and after
    vocabulary: <eos> is number 0, <unk> number 1, the others as frequent in the training sentences
    manifest:   as for Text, and the share of <unk> in each split; "baseline", nats per word of the neighbours by the
                words' frequencies alone, by split
    """

    sentences: dict[str, Tensor]
    middles: dict[str, Tensor]
    vocabulary: list[str]
    manifest: dict


@dataclass(frozen=True)
class Cloze:
    """Questions about passages, whole and in memory.

    inputs:          "train", "val", "test" -> (N, Q + P) int32, indices into `vocabulary`: a question, padded with 0
                     to Q, and its passage, padded to P
    answers:         the same keys -> (N,) int64, indices into the candidates
    vocabulary:      padding, the blank, the candidates, the words
    candidates:      how many may answer
    question_length: Q
    anonymous:       whether the candidates are markers without a meaning, that any permutation leaves the same question
    manifest:        as for Text, and the shape [symbols, Q, P], the number of candidates, the errors of trivial answers
    """

    inputs: dict[str, Tensor]
    answers: dict[str, Tensor]
    vocabulary: list[str]
    candidates: int
    question_length: int
    anonymous: bool
    manifest: dict
