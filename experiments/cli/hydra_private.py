"""The private parts of Hydra that this repository uses, all of them, each with the reason.

They fit hydra-core>=1.3.2,<1.4; tests/cli/test_hydra_private.py checks their signatures. Importing this module shares
Hydra's store of schemas, see below.
"""

from typing import TYPE_CHECKING, Any

import hydra._internal.hydra
from hydra._internal.config_loader_impl import (
    ConfigLoaderImpl,  # composes many jobs at once (compose.SweepLoader), answers Tab quickly (completion.TabLoader)
    get_overrides_dirname,  # hydra.job.override_dirname of a job that was not composed by Hydra
)
from hydra._internal.utils import get_args_parser  # the flags that Hydra will read, to refuse wrong ones in one line
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus

if TYPE_CHECKING:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf

__all__ = [
    "BasicSweeper",
    "BasicSweeperConf",
    "ConfigLoaderImpl",
    "get_args_parser",
    "get_overrides_dirname",
    "use_loader",
]

# Hydra copies its store whenever it composes or lists a group, though it is a singleton and copies what it hands out:
# 10 ms each time, which is felt in Tab completion and in a sweep.
ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]


def _return_value(job: JobReturn) -> Any:
    """As in Hydra, but without its line on stderr in front of the exception: `command` prints one."""
    if job.status == JobStatus.FAILED:
        raise job._return_value
    return job._return_value


JobReturn.return_value = property(_return_value, JobReturn.return_value.fset)  # type: ignore[attr-defined, assignment]


def __getattr__(name: str) -> Any:
    """Import lazily BasicSweeper, which is the sweeper's base class and splits a grid into jobs, and its options.

    Hydra executes the module of a core plugin once more when it first looks for plugins: a class from before is not
    the one that its methods then mean.
    """
    if name in ("BasicSweeper", "BasicSweeperConf"):
        from hydra._internal.core_plugins import basic_sweeper

        return getattr(basic_sweeper, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")


def use_loader(loader: type[ConfigLoaderImpl]) -> None:
    """Let hydra.main make this loader in place of its own; it has no option for that."""
    hydra._internal.hydra.ConfigLoaderImpl = loader  # type: ignore[misc]
