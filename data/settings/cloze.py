"""Questions about passages, to answer."""

from dataclasses import dataclass, field

from .base import COUNT, Blocks, DataSettings


@dataclass(kw_only=True)
class ClozeData(DataSettings):
    """Questions about passages, each answered by one of a few candidates."""

    kind: str = "cloze"
    batch_size: int = field(default=32, metadata={"help": "questions per training step", "range": COUNT})
    eval_batch_size: int = field(default=200, metadata={"help": "questions at a time in evaluation", "range": COUNT})
    words: int = field(
        default=10_000,
        metadata={"help": "words kept, the most frequent of the training questions; others: <unk>", "range": COUNT},
    )
    train_examples: int | None = field(
        default=None, metadata={"help": "so many training questions, the first ones; null: all of them", "range": COUNT}
    )
    val_examples: int | None = field(
        default=None,
        metadata={
            "help": "so many validation questions, evenly spaced, where they are evaluated often; null: all",
            "range": COUNT,
        },
    )


@dataclass(kw_only=True)
class EntityCloze(ClozeData):
    """Questions made of a text: a sentence with one entity blanked, the sentences before it as the passage.

    Hermann et al. 2015: every entity is a marker whose number means nothing, and the answer occurs in the passage. As
    it stands: WikiText-2.
    """

    sentences: int = field(default=4, metadata={"help": "sentences of a passage", "range": (1, 1000)})
    entities: int = field(
        default=20, metadata={"help": "markers; a question with more entities is left out", "range": (2, 10_000)}
    )
    passage_words: int = field(
        default=200, metadata={"help": "a question whose passage has more words is left out", "range": COUNT}
    )
    question_words: int = field(default=60, metadata={"help": "a question with more words is left out", "range": COUNT})


@dataclass(kw_only=True)
class PythonDocsCloze(Blocks, EntityCloze):
    """Such questions of the Python language reference; split by blocks, as the text `python_docs` is."""

    name: str = "python_docs_cloze"
    words: int = 500


@dataclass(kw_only=True)
class BabiData(ClozeData):
    """A task of bAbI (Weston et al. 2015) with 10,000 training questions: a story, a question, a word that answers."""

    name: str = "babi"
    task: int = field(default=1, metadata={"help": "1: one supporting fact, 2: two", "range": (1, 2)})
    val: int = field(
        default=1000, metadata={"help": "validation questions, the last of the training file", "range": COUNT}
    )
