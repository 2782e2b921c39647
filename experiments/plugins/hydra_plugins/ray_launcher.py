"""Ray as a launcher: every run of a sweep is a task, on this machine or on a cluster that runs.

The plugin hydra-ray-launcher cannot be installed beside the rest: it wants cloudpickle and python-dateutil below 3.
Stands in a folder of this name for the reason that resumable_sweeper.py gives.
"""

import importlib.util
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parents[3]
PASSED_ON = ("LAYERNORM_DATA", "LAYERNORM_CACHE")  # variables of the sweep that its runs read


class RayLauncher(Launcher):
    """Start one task for each job, and wait for all of them."""

    def __init__(self, ray: DictConfig):
        """ray: `init`, the arguments of ray.init, and `remote`, those of ray.remote."""
        self.options: Any = OmegaConf.to_container(ray, resolve=True)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        if importlib.util.find_spec("ray") is None:
            raise RuntimeError("ray is not installed")
        self.sweep = hydra_context, config, task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Return what became of the jobs, in their order, when the last one has ended. Raises what Ray does of a task
        whose process died again and again."""
        import ray
        from ray import cloudpickle

        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            handler = signal.getsignal(signal.SIGTERM)
            ray.init(**self.options["init"])
            signal.signal(signal.SIGTERM, handler)  # Ray's ends the process before its runs have left a checkpoint
        folder, packages = os.getcwd(), [str(ROOT), str(Path(__file__).parents[1])]
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        sweep = ray.put(cloudpickle.dumps((*self.sweep, Singleton.get_state())))

        def task(number: int, overrides: list[str], sweep: bytes) -> JobReturn:
            """Pickled as it stands: a worker knows no module of this repository before its path is set."""
            import os
            import sys

            os.chdir(folder)
            os.environ.update(environment)
            sys.path[:0] = [path for path in packages if path not in sys.path]
            from hydra_plugins import ray_launcher

            return ray_launcher.run(number, overrides, sweep)

        remote = ray.remote(**self.options["remote"])(task)
        tasks = [
            remote.remote(initial_job_idx + number, list(overrides), sweep)
            for number, overrides in enumerate(job_overrides)
        ]
        ray.wait(tasks, num_returns=len(tasks))
        return ray.get(tasks)


def run(number: int, overrides: list[str], pickled: bytes) -> JobReturn:
    """Run one job of a sweep in a worker."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import run_job, setup_globals
    from omegaconf import open_dict
    from ray import cloudpickle

    hydra_context, config, task_function, singletons = cloudpickle.loads(pickled)
    setup_globals()
    Singleton.set_state(singletons)
    sweep_config = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(sweep_config):
        sweep_config.hydra.job.id = f"{sweep_config.hydra.job.name}_{number}"
        sweep_config.hydra.job.num = number
    HydraConfig.instance().set_config(sweep_config)
    return run_job(
        hydra_context=hydra_context,
        config=sweep_config,
        task_function=task_function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
