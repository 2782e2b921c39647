"""Which steps of a run are evaluated and logged: a function of its settings alone."""

from dataclasses import dataclass

from experiments.config.schema import Trainer


def budget(settings: Trainer, steps_per_epoch: int, batch_size: int) -> int:
    """Return the number of steps: from epochs, examples or steps, whichever is set, else 1000."""
    if settings.epochs is not None:
        return settings.epochs * steps_per_epoch
    if settings.examples is not None:
        return max(1, settings.examples // batch_size)
    return settings.steps or 1000


@dataclass(frozen=True)
class Schedule:
    """The steps of a run, counted from 1, that get a row."""

    steps: int | None  # in all; None where it is unknown, as of an interrupted run whose budget is in epochs
    evaluated: frozenset[int]  # with an evaluation
    log_every: int

    @classmethod
    def of(cls, settings: Trainer, steps: int | None) -> "Schedule":
        parts = range(settings.evaluations if steps else 0)
        evaluated = frozenset(round((steps or 0) * (part + 1) / settings.evaluations) for part in parts)
        return cls(steps, evaluated, settings.log_every)

    @property
    def quarters(self) -> frozenset[int]:
        """The first evaluated steps with a quarter, a half, three quarters and all of the training done."""
        parts = [(self.steps or 0) * part / 4 for part in range(1, 5)]
        return frozenset(min(step for step in self.evaluated if step >= part) for part in parts if self.evaluated)

    def logs(self, step: int) -> bool:
        return step in self.evaluated or step % self.log_every == 0

    def logged(self, last: int) -> list[int]:
        """Return the steps up to `last` that have a row."""
        evaluated = [step for step in self.evaluated if 0 < step <= last]
        return sorted({*range(self.log_every, last + 1, self.log_every), *evaluated})
