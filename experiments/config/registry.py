"""Register with Hydra: the schemas of a run, the resolvers of its files, and the folder of the sweeper."""

import sys

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

import data.settings
import models.settings
from experiments.config.cell import tuned_lr
from experiments.config.paths import ROOT
from experiments.config.schema import SGD, Adam, Config, Profile


def register() -> None:
    """Register schemas, resolvers and plugins. Called on import: a sweep's worker process imports this module."""
    # Hydra looks for plugins on the path when it first starts.
    sys.path.append(str(ROOT / "experiments" / "plugins"))
    store = ConfigStore.instance()
    store.store(name="config_schema", node=Config)
    store.store(group="schema/optim", name="adam", node=Adam)
    store.store(group="schema/optim", name="sgd", node=SGD)
    store.store(group="schema", name="profile", node=Profile)
    for name, node in models.settings.SCHEMAS.items():
        store.store(group="schema/model", name=name, node=node)
    for name, node in data.settings.SCHEMAS.items():
        store.store(group="schema/data", name=name, node=node)
    OmegaConf.register_new_resolver("tuned_lr", tuned_lr, replace=True)
    OmegaConf.register_new_resolver("seeds", lambda first, count: list(range(first, first + count)), replace=True)
    OmegaConf.register_new_resolver("join", lambda values: ",".join(map(str, values)), replace=True)


register()
