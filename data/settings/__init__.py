"""What may be set about data: plain dataclasses, one per shape of source, importable without torch in milliseconds.

They are the schemas of `configs/data/*.yaml`; `SCHEMAS` names them for registration. `data.load(settings)` takes one.
A field's metadata has its meaning with its unit ("help"), and where it has them its range, as (low, high) or as an
inequality, and its choices; --help prints them, and configurations are checked by them.
"""

from .base import COUNT, INT32_MAX, DataSettings
from .binary import BinaryData, BinaryDigits
from .cloze import BabiData, ClozeData, EntityCloze, PythonDocsCloze
from .images import ImageData, ImageFile, ImageFolder, NoisyDigits, OwnImages, SplitImages
from .pairs import PairData, PythonDocsPairs
from .sentences import Fiction, PythonDocsSentences, SentenceData
from .strokes import Crohme, DrawnLines, StrokeData
from .text import BinarizedMNIST, FractionText, HubText, PythonDocs, TextData, TextFile

__all__ = [
    "COUNT",
    "INT32_MAX",
    "SCHEMAS",
    "BabiData",
    "BinarizedMNIST",
    "BinaryData",
    "BinaryDigits",
    "ClozeData",
    "Crohme",
    "DataSettings",
    "DrawnLines",
    "EntityCloze",
    "Fiction",
    "FractionText",
    "HubText",
    "ImageData",
    "ImageFile",
    "ImageFolder",
    "NoisyDigits",
    "OwnImages",
    "PairData",
    "PythonDocs",
    "PythonDocsCloze",
    "PythonDocsPairs",
    "PythonDocsSentences",
    "SentenceData",
    "SplitImages",
    "StrokeData",
    "TextData",
    "TextFile",
]

SCHEMAS: dict[str, type] = {
    "text": TextData,
    "python_docs": PythonDocs,
    "fraction_text": FractionText,
    "text_file": TextFile,
    "hub_text": HubText,
    "binarized_mnist": BinarizedMNIST,
    "images": ImageData,
    "split_images": SplitImages,
    "noisy_digits": NoisyDigits,
    "image_folder": ImageFolder,
    "image_file": ImageFile,
    "binary": BinaryData,
    "binary_digits": BinaryDigits,
    "crohme": Crohme,
    "drawn_lines": DrawnLines,
    "pairs": PairData,
    "python_docs_pairs": PythonDocsPairs,
    "fiction": Fiction,
    "python_docs_sentences": PythonDocsSentences,
    "entity_cloze": EntityCloze,
    "python_docs_cloze": PythonDocsCloze,
    "babi": BabiData,
}
