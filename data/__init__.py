"""Data sets as tensors: found, verified, prepared once, handed over whole.

    >>> text = data.load(PythonDocs())            # data.Text: tokens by split, vocabulary, manifest
    >>> images = data.load(SplitImages(name="digits", val=300, test=300))       # data.Images
    >>> data.fingerprint(settings)                # what the numbers come from, in one hash, without torch

`SETS` is the table of all sets. `data.settings` says what may be set, `data/README.md` what each set is.
"""

from .files import DataError
from .loading import Content, fingerprint, load, recorded_fingerprint
from .sets import SETS, DataSet
from .types import Binary, Cloze, Images, Pairs, Sentences, Strokes, Text

__all__ = [
    "SETS",
    "Binary",
    "Cloze",
    "Content",
    "DataError",
    "DataSet",
    "Images",
    "Pairs",
    "Sentences",
    "Strokes",
    "Text",
    "fingerprint",
    "load",
    "recorded_fingerprint",
]
