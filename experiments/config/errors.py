"""A configuration that is refused, and the words of error messages."""

import difflib


class ConfigError(ValueError):
    """A configuration that is refused. The message is one line: what was given, what is allowed, what to do."""


def nearest(word: str, allowed) -> str:
    """The allowed word that is spelled most like the given one, in whatever case."""
    written = {other.lower(): other for other in allowed}
    return written[difflib.get_close_matches(str(word).lower(), list(written), 1, cutoff=0.0)[0]]


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
