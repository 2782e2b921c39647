"""The tasks: batches, loss and metrics. Data lie in memory as tensors and a batch is an index into them.

The order of the training data is a function of (seed, epoch) alone, so all normalisers see the same batches and a
resumed run needs no generator state. The last incomplete batch of an epoch is dropped. Another kind of data is another
file here and another entry of TASKS.
"""

from typing import Any

from data import Binary, Cloze, Content, Images, Pairs, Sentences, Strokes, Text

from .classification import Classification
from .density_estimation import DensityEstimation
from .handwriting import Handwriting
from .language_modelling import LanguageModelling
from .order import epoch_generator
from .question_answering import QuestionAnswering
from .retrieval import Retrieval
from .sentence_prediction import SentencePrediction

__all__ = [
    "Classification",
    "DataTask",
    "DensityEstimation",
    "Handwriting",
    "LanguageModelling",
    "QuestionAnswering",
    "Retrieval",
    "SentencePrediction",
    "epoch_generator",
    "make_task",
]

DataTask = (
    LanguageModelling
    | Classification
    | DensityEstimation
    | Handwriting
    | Retrieval
    | SentencePrediction
    | QuestionAnswering
)
TASKS: dict[type, Any] = {
    Text: LanguageModelling,
    Images: Classification,
    Binary: DensityEstimation,
    Strokes: Handwriting,
    Pairs: Retrieval,
    Sentences: SentencePrediction,
    Cloze: QuestionAnswering,
}


def make_task(content: Content, settings, seed: int, device: str) -> DataTask:
    """Return the task of a data set. Raises ConfigError when not even one batch fits.

    settings: a dataclass of data.settings.
    """
    return TASKS[type(content)](content, settings, seed, device)
