"""A configuration that is refused, and the words of error messages."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A configuration that is refused. The message is one line: what was given, what is allowed, what to do."""


def one_of(key: str, value: object, allowed: Iterable[str]) -> None:
    """Check that a value is among the allowed words. Raises ConfigError."""
    allowed = list(allowed)
    if value not in allowed:
        raise ConfigError(unknown_word(key, value, allowed))


def unknown_word(key: str, value: object, allowed: Iterable[str]) -> str:
    """Return the message for a value that is none of the allowed words."""
    allowed = list(allowed)
    return f"{key}={value} is unknown; allowed: {', '.join(allowed)}; nearest: {nearest(value, allowed)}"


def nearest(word: object, allowed: Iterable[str]) -> str:
    """Return the allowed word whose spelling is nearest to the given one, in whatever case; "none" if none is."""
    by_lower_case = {other.lower(): other for other in allowed}
    if not by_lower_case:
        return "none"
    return by_lower_case[difflib.get_close_matches(str(word).lower(), list(by_lower_case), 1, cutoff=0.0)[0]]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
