"""A configuration composed and checked as in a sweep, in this process: in a hundredth of the time of a command."""

import contextlib
import functools
import io
from pathlib import Path

from omegaconf import DictConfig

from experiments.cli.command import refusals_in_one_line
from experiments.cli.compose import compose_all
from experiments.config.schema import settings
from experiments.judging.claims import check_claims
from experiments.runs.run import Run
from experiments.training.check import check, check_fields
from tests.helpers.configs import composed


def checked(overrides: list[str]) -> DictConfig | str:
    """Return the configuration, or the one line with which it is refused."""
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr), refusals_in_one_line():
            [cfg] = compose_all([overrides], lambda choices: _composed(tuple(choices)))
            check_fields(cfg)
            check_claims(settings(cfg.experiment))
            check(Run.of(cfg))
    except SystemExit as end:
        [line] = stderr.getvalue().splitlines()
        assert end.code == 2 and line.startswith("error: ")
        return line
    assert stderr.getvalue() == ""
    return cfg


@functools.cache
def _composed(choices: tuple[str, ...]) -> DictConfig:
    """Cached: Hydra takes a tenth of a second and more for each."""
    return composed(*choices)


class Payload:
    """A pickle of it makes a file when it is read: a stand-in for a pickle that does harm."""

    def __init__(self, marker: str):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)
