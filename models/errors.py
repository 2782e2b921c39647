"""The one exception of this package."""


class ModelError(ValueError):
    """A model that cannot be built as asked. The message is one line: what was given, what is allowed, what to do."""
