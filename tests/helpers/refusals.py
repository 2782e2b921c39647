"""How a configuration is composed and checked in a sweep, in this process: in a hundredth of the time of a command."""

import contextlib
import functools
import io

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from experiments.cli.command import refusals_in_one_line
from experiments.cli.compose import compose_all
from experiments.config.paths import CONFIGS
from experiments.runs.run import Run
from experiments.training.check import check, check_fields


def checked(overrides: list[str]) -> DictConfig | str:
    """The configuration, or the one line with which it is refused."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), refusals_in_one_line():
            [cfg] = compose_all([overrides], lambda choices: _composed(tuple(choices)))
            check_fields(cfg)
            check(Run.of(cfg))
    except SystemExit as end:
        [line] = told.getvalue().splitlines()
        assert end.code == 2 and line.startswith("error: ")
        return line
    assert told.getvalue() == ""
    return cfg


@functools.cache
def _composed(choices: tuple[str, ...]) -> DictConfig:
    """Hydra takes a tenth of a second and more for each."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", list(choices))
