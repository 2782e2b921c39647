"""Hydra's basic sweeper, with a look at the run folders before and after.

Stands in a folder of this name because Hydra takes plugins from the namespace package `hydra_plugins` only;
experiments.cli puts the folder's parent on the path.
"""

import sys
from collections.abc import Iterator
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict

from experiments.cli.command import refusals_in_one_line
from experiments.cli.compose import SweepLoader, compose_all
from experiments.cli.hydra_private import BasicSweeper, BasicSweeperConf
from experiments.config.errors import ConfigError
from experiments.runs.signals import stop_request
from experiments.runs.torchrun import num_ranks
from experiments.sweeps import grid
from experiments.training import no_effect

EXTRAS = {  # of launchers that are not always installed; and where pip is to bring them
    "submitit_slurm": ("slurm", "pip install -e '.[slurm]'"),
    "submitit_local": ("slurm", "pip install -e '.[slurm]'"),
    "ray": ("ray", "pip install -e '.[experiments,ray]' in an environment of its own"),
}

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="resumable",
    node=BasicSweeperConf(_target_="hydra_plugins.resumable_sweeper.ResumableSweeper"),
)


class ResumableSweeper(BasicSweeper):
    """Runs the unfinished jobs of a grid: `norm=none,ln seed=0,1`, or those of experiments; the command line wins.

    Every job is composed and checked before the first one starts, what is finished is left out, and the last lines
    count the outcomes. The launcher is any of Hydra's. Exits with 1 when a run failed or trains elsewhere.
    """

    # Hydra sets them before it sweeps, and declares them as optional.
    config: Any
    hydra_context: Any
    launcher: Any

    def setup(self, *, hydra_context, task_function, config: DictConfig) -> None:
        loader = SweepLoader(hydra_context.config_loader.get_search_path())
        context = HydraContext(config_loader=loader, callbacks=hydra_context.callbacks)
        try:
            super().setup(hydra_context=context, task_function=task_function, config=config)
        except RuntimeError as error:  # Hydra's: unknown plugin class
            launcher = config.hydra.runtime.choices["hydra/launcher"]
            if launcher not in EXTRAS:
                raise
            extra, remedy = EXTRAS[launcher]
            remedy += ", or take hydra/launcher=joblib"
            raise ConfigError(f"hydra/launcher={launcher} needs the extra `{extra}`: {remedy}") from error

    def sweep(self, arguments: list[str]) -> None:
        # Here, since Hydra imports its plugins whenever it starts, for tab completion too.
        from experiments.runs.progress import ProgressDisplay
        from experiments.sweeps.launch import LaunchError, conclude, run_all, select_pending, stop_passed_on
        from experiments.sweeps.plan import print_plan, watched, workers

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = parser.parse_overrides(arguments)
        with refusals_in_one_line():
            if num_ranks() > 1:
                raise ConfigError(
                    "torchrun spreads one run over its processes; leave out -m, or start it without torchrun"
                )
            jobs = []
            for config, own in self._experiments(arguments, given):
                jobs += grid.jobs(config.hydra.sweeper.params or {}, config.experiment.grids, own, parser)
            configs = compose_all(jobs, self._compose)
            folders, pending = select_pending(configs, [grid.apart_from_seed(job) for job in jobs])
        no_effect.warn(arguments, configs)
        if self.config.plan:
            return print_plan(configs, folders, workers(self.config.hydra.launcher))
        failures: dict[int, str] = {}
        if pending:
            unfinished = [folders[index] for index in pending]
            watched_runs = watched([configs[index] for index in pending], unfinished)
            with ProgressDisplay(watched_runs, quiet=self.config.quiet), stop_passed_on(unfinished):
                try:
                    failures = run_all(lambda batch: self._launch(jobs, batch), folders, pending, self.max_batch_size)
                except LaunchError as error:
                    sys.exit(f"error: {error}")
        reasons = {folders[index]: reason for index, reason in failures.items()}
        finished = conclude(folders, len(jobs) - len(pending), reasons)
        if stop_request.number is not None:
            print("the same command goes on where this one was stopped", file=sys.stderr)
            sys.exit(stop_request.exit_code)
        if not finished:
            sys.exit(1)

    def _experiments(self, arguments: list[str], given: list[Override]) -> Iterator[tuple[DictConfig, list[str]]]:
        """Every experiment's configuration and arguments. Each has a grid of its own: no product with the others'."""
        chosen = [override for override in given if override.key_or_group == "experiment"]
        if not any(override.is_sweep_override() for override in chosen):
            yield self.config, arguments
            return
        others = [argument for argument, override in zip(arguments, given, strict=True) if override not in chosen]
        for name in chosen[-1].sweep_string_iterator():
            own = [f"experiment={name}", *others]
            loader = self.hydra_context.config_loader
            yield loader.load_configuration(self.config.hydra.job.config_name, own, RunMode.MULTIRUN), own

    def _launch(self, jobs: list[list[str]], batch: list[int]):
        return self.launcher.launch([jobs[index] for index in batch], initial_job_idx=0)

    def _compose(self, job: list[str]) -> DictConfig:
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, job)
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg
