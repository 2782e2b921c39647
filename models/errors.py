"""The one exception of this package."""

import difflib
from collections.abc import Iterable


class ModelError(ValueError):
    """A model that cannot be built as asked. The message is one line: what was given, what is allowed, what to do."""


def must_be_one_of(key: str, given: str, allowed: Iterable[str]) -> None:
    """Raises ModelError, with the nearest allowed word, for one that is not."""
    if given not in (words := list(allowed)):
        near = difflib.get_close_matches(str(given).lower(), words, 1, cutoff=0.0)[0]
        raise ModelError(f"{key}={given} is unknown; allowed: {', '.join(words)}; nearest: {near}")
