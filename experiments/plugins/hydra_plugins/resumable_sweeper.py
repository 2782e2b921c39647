"""Hydra's basic sweeper, which reads the run folders before and after and leaves out what is finished.

Stands in a folder of this name because Hydra takes plugins from the namespace package `hydra_plugins` only;
experiments.config.registry puts the folder's parent on the path.
"""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict

from experiments.cli.command import refusals_in_one_line
from experiments.cli.compose import SweepLoader, compose_all
from experiments.cli.hydra_private import BasicSweeper, BasicSweeperConf
from experiments.config.errors import ConfigError
from experiments.config.experiment import Experiment
from experiments.config.schema import settings
from experiments.runs.signals import stop_request
from experiments.runs.torchrun import num_ranks
from experiments.sweeps import grid
from experiments.training import no_effect

if TYPE_CHECKING:
    from experiments.runs.run import Run

EXTRAS = {  # the extra of a launcher that is not always installed, and the command that installs it
    "submitit_slurm": ("slurm", "pip install -c constraints.txt -e '.[slurm]'"),
    "submitit_local": ("slurm", "pip install -c constraints.txt -e '.[slurm]'"),
    "ray": ("ray", "pip install -c constraints.txt -e '.[ray]'"),
}

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="resumable",
    node=BasicSweeperConf(_target_="hydra_plugins.resumable_sweeper.ResumableSweeper"),
)


class ResumableSweeper(BasicSweeper):
    """Run the unfinished jobs of a grid: `norm=none,ln seed=0,1`, or those of experiments; the command line wins.

    Every job is composed and checked before the first one starts, finished runs are left out, and the last lines count
    the outcomes. The launcher is any of Hydra's. Exits with 1 when a run failed or trains elsewhere.
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
            extra, install = EXTRAS[launcher]
            remedy = f"{install}, or take hydra/launcher=joblib"
            raise ConfigError(f"hydra/launcher={launcher} needs the extra `{extra}`: {remedy}") from error

    def sweep(self, arguments: list[str]) -> None:
        # Imported here, since Hydra imports its plugins whenever it starts, for tab completion too.
        from experiments.judging.claims import check_cells, check_logged
        from experiments.sweeps.launch import conclude, runs_of, select_pending
        from experiments.sweeps.plan import print_plan, workers
        from experiments.training.check import warn_of_unknown_words

        with refusals_in_one_line():
            if num_ranks() > 1:
                raise ConfigError(
                    "torchrun spreads one run over its processes; leave out -m, or start it without torchrun"
                )
            self._check_launcher()
            jobs, rules = self._jobs(arguments)
            configs = compose_all(jobs, self._compose)
            columns = grid.run_columns(configs)
            for rule in rules if configs else []:  # else refused below
                check_cells(rule, [run for run in columns if run["experiment"] == rule.name])
            for name in dict.fromkeys(run["experiment"] for run in columns):
                of = [config for config, run in zip(configs, columns, strict=True) if run["experiment"] == name]
                if of[0].experiment.claims or self.config.stage == "tune":
                    check_logged(settings(of[0].experiment), self.config.stage, set(map(_kind_of_data, of)))
            runs = runs_of(configs, list(map(grid.apart_from_seed, jobs)))
            jobs, runs = self._without_known(jobs, runs)
            pending = select_pending(runs, list(map(grid.apart_from_seed, jobs)))
        no_effect.warn(arguments, configs)
        if not runs:
            return None
        if self.config.plan:
            return print_plan(runs, workers(self.config.hydra.launcher))
        warn_of_unknown_words(runs[index] for index in pending)

        failures = self._train(jobs, runs, pending) if pending else {}
        folders, left = [run.folder for run in runs], set(pending)
        reasons = {folders[index]: reason for index, reason in failures.items()}
        skipped = {folder for index, folder in enumerate(folders) if index not in left}
        all_finished = conclude(folders, skipped, reasons)
        if stop_request.number is not None:
            print("the same command goes on where this one was stopped", file=sys.stderr)
            sys.exit(stop_request.exit_code)
        if not all_finished:
            sys.exit(1)

    def _check_launcher(self) -> None:
        """Refuse settings with which a sweep would start nothing, for ever. Raises ConfigError."""
        if self.max_batch_size is not None and self.max_batch_size < 1:
            given = f"hydra.sweeper.max_batch_size={self.max_batch_size}"
            raise ConfigError(f"{given} launches nothing; give 1 or more, or leave it out for all at once")
        for key, otherwise in (("n_jobs", "or -1 for every core"), ("array_parallelism", "or leave it out")):
            if self.config.hydra.launcher.get(key) == 0:
                raise ConfigError(f"hydra.launcher.{key}=0 runs nothing; give 1 or more, {otherwise}")

    def _jobs(self, arguments: list[str]) -> tuple[list[list[str]], list[Experiment]]:
        """Return the overrides of every job, and the rules of the experiments whose whole grid is to be run.

        Each experiment has its own grid: no product with the others'. Raises ConfigError for a claim whose rule could
        not be judged.
        """
        from experiments.judging.claims import check_claims

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides(arguments)
        jobs, rules = [], []
        for config, experiment_arguments in self._experiments(arguments, parsed):
            rule = settings(config.experiment)
            check_claims(rule)
            params = config.hydra.sweeper.params or {}
            jobs += grid.jobs(params, rule.grids, experiment_arguments, parser)
            if (
                config.stage == "final"
                and not rule.sources
                and not grid.narrows(experiment_arguments, params, rule.grids)
            ):
                rules.append(rule)
        return jobs, rules

    def _without_known(self, jobs: list[list[str]], runs: "list[Run]") -> tuple[list[list[str]], "list[Run]"]:
        """Leave out the jobs whose rows `known` holds, and say how many. Raises ConfigError."""
        if self.config.known is None:
            return jobs, runs
        from experiments.runs.known import known_rows

        known = known_rows(self.config.known)
        left = [(job, run) for job, run in zip(jobs, runs, strict=True) if run.id not in known]
        print(f"{len(runs) - len(left)} of {len(runs)} runs are known from {self.config.known}", flush=True)
        return [job for job, _ in left], [run for _, run in left]

    def _experiments(self, arguments: list[str], parsed: list[Override]) -> Iterator[tuple[DictConfig, list[str]]]:
        """Yield every experiment's configuration and arguments."""
        chosen = [override for override in parsed if override.key_or_group == "experiment"]
        if not any(override.is_sweep_override() for override in chosen):
            yield self.config, arguments
            return
        others = [argument for argument, override in zip(arguments, parsed, strict=True) if override not in chosen]
        for name in chosen[-1].sweep_string_iterator():
            experiment_arguments = [f"experiment={name}", *others]
            load = self.hydra_context.config_loader.load_configuration
            config = load(self.config.hydra.job.config_name, experiment_arguments, RunMode.MULTIRUN)
            yield config, experiment_arguments

    def _train(self, jobs: list[list[str]], runs: "list[Run]", pending: list[int]) -> dict[int, str]:
        """Train the pending runs under a progress display; return why some failed, by index."""
        from experiments.runs.progress import ProgressDisplay
        from experiments.sweeps.launch import LaunchError, run_all, stop_passed_on
        from experiments.sweeps.plan import watched

        unfinished = [runs[index] for index in pending]
        display = ProgressDisplay(watched(unfinished), quiet=self.config.quiet)
        with display, stop_passed_on([run.folder for run in unfinished]):
            try:
                folders = [run.folder for run in runs]
                return run_all(lambda batch: self._launch(jobs, batch), folders, pending, self.max_batch_size)
            except LaunchError as error:
                sys.exit(f"error: {error}")
        return {}  # stopped: stop_passed_on has caught the KeyboardInterrupt

    def _launch(self, jobs: list[list[str]], batch: list[int]):
        return self.launcher.launch([jobs[index] for index in batch], initial_job_idx=0)

    def _compose(self, job: list[str]) -> DictConfig:
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, job)
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg


def _kind_of_data(config: DictConfig) -> str:
    """Return the kind of a run's data, of a text its symbol: what a task logs depends on it (claims.base.UNITS_OF)."""
    return config.data.unit if config.data.kind == "text" else config.data.kind
