"""The schemas and resolvers of a run, and the sweeper, made known to Hydra."""

import sys

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

import data.settings
import models.settings
from experiments.config.cell import tuned_lr
from experiments.config.paths import ROOT
from experiments.config.schema import SGD, Adam, Config, Profile


def register() -> None:
    """Make the schemas and resolvers known to Hydra. Called on import: a sweep's worker process imports this module."""
    # Hydra looks for plugins on the path, when it first starts.
    sys.path.append(str(ROOT / "experiments" / "sweeps" / "plugins"))
    store = ConfigStore.instance()
    # Hydra copies its store whenever it composes or lists a group, though it is a singleton and copies what it gives
    # out: 10 ms each time, which is felt in tab completion and in a sweep.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    store.store(name="config_schema", node=Config)
    store.store(group="schema/optim", name="adam", node=Adam)
    store.store(group="schema/optim", name="sgd", node=SGD)
    store.store(group="schema", name="profile", node=Profile)
    for name, node in models.settings.SCHEMAS.items():
        store.store(group="schema/model", name=name, node=node)
    for name, node in data.settings.SCHEMAS.items():
        store.store(group="schema/data", name=name, node=node)
    OmegaConf.register_new_resolver("tuned_lr", tuned_lr, replace=True)
    OmegaConf.register_new_resolver("join", lambda values: ",".join(map(str, values)), replace=True)


register()
