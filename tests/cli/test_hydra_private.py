"""The private parts of Hydra: which versions they fit. A failure here names the module to look at."""

import inspect
from importlib.metadata import version

import hydra._internal.hydra
import pytest
from hydra.core.config_store import ConfigStore
from hydra.plugins.completion_plugin import CompletionPlugin
from packaging.version import Version

from experiments.cli import hydra_private
from experiments.cli.completion import TabLoader
from experiments.cli.compose import SweepLoader

LOOK_AT = "Hydra has changed; look at experiments/cli/hydra_private.py and at what imports it"

SIGNATURES = {  # what is called or overridden, and its parameters in Hydra 1.3
    hydra_private.ConfigLoaderImpl: ["config_search_path"],
    hydra_private.ConfigLoaderImpl.load_sweep_config: ["self", "master_config", "sweep_overrides"],
    hydra_private.ConfigLoaderImpl.get_group_options: [
        "self",
        "group_name",
        "results_filter",
        "config_name",
        "overrides",
    ],
    hydra_private.ConfigLoaderImpl._parse_overrides_and_create_caching_repo: ["self", "config_name", "overrides"],
    hydra_private.get_overrides_dirname: ["overrides", "exclude_keys", "item_sep", "kv_sep"],
    hydra_private.get_args_parser: [],
    hydra_private.BasicSweeper: ["max_batch_size", "params"],
    hydra_private.BasicSweeper.setup: ["self", "hydra_context", "task_function", "config"],
    hydra_private.BasicSweeper.sweep: ["self", "arguments"],
    hydra_private.BasicSweeper.split_arguments: ["overrides", "max_batch_size"],
    CompletionPlugin._query_config_groups: ["self", "word", "config_name", "words"],  # asks TabLoader
}


def test_the_installed_hydra_is_one_that_they_fit():
    assert Version("1.3.2") <= Version(version("hydra-core")) < Version("1.4"), LOOK_AT


@pytest.mark.parametrize("part", SIGNATURES, ids=lambda part: part.__qualname__)
def test_the_signatures_are_those_of_hydra_1_3(part):
    assert list(inspect.signature(part).parameters) == SIGNATURES[part], LOOK_AT


@pytest.mark.parametrize("loader", [SweepLoader, TabLoader])
def test_a_loader_overrides_methods_with_their_parameters(loader):
    own = {name: value for name, value in vars(loader).items() if inspect.isfunction(value) and name != "__init__"}
    assert own
    for name, method in own.items():
        theirs = getattr(hydra_private.ConfigLoaderImpl, name, None)
        assert theirs is not None, f"{name}: {LOOK_AT}"
        assert list(inspect.signature(method).parameters) == list(inspect.signature(theirs).parameters), LOOK_AT


def test_hydra_main_makes_the_loader_that_it_is_given(monkeypatch):
    monkeypatch.setattr(hydra._internal.hydra, "ConfigLoaderImpl", hydra_private.ConfigLoaderImpl)
    hydra_private.use_loader(TabLoader)
    assert hydra._internal.hydra.ConfigLoaderImpl is TabLoader
    assert "ConfigLoaderImpl(" in inspect.getsource(hydra._internal.hydra.Hydra.create_main_hydra2), LOOK_AT


def test_the_store_of_schemas_is_shared_and_copies_what_it_hands_out():
    store = ConfigStore.instance()
    assert hydra_private.ConfigStore.__deepcopy__(store, {}) is store
    assert store.load("config_schema.yaml").node is not store.load("config_schema.yaml").node, LOOK_AT


def test_one_module_alone_imports_them():
    from experiments.config.paths import ROOT

    users = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "experiments").rglob("*.py")
        if "hydra._internal" in path.read_text()
    }
    assert users == {"experiments/cli/hydra_private.py"}
