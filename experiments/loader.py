"""How the process that runs a sweep's jobs composes them."""

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from experiments.grid import composed

# By what the sweep says of Hydra itself. Here and not in the loader, which a launcher pickles with every job.
_chosen: dict[tuple, dict[tuple, bytes]] = {}


class SweepLoader(ConfigLoaderImpl):
    """Hydra's, that composes the jobs which choose the same groups once in a process; Hydra does for every job."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        hydra = master_config.hydra
        chosen = _chosen.setdefault((hydra.job.config_name, *hydra.overrides.hydra), {})
        load = super().load_sweep_config
        cfg = composed(sweep_overrides, lambda groups: load(master_config, groups), chosen)
        own = [o for o in OverridesParser.create().parse_overrides(sweep_overrides) if not o.is_hydra_override()]
        cfg.hydra.overrides.task = [override.input_line for override in own]
        cfg.hydra.job.override_dirname = get_overrides_dirname(own, **cfg.hydra.job.config.override_dirname)
        return cfg
