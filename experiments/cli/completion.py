"""Tab completion is Hydra's; here its answers are made quick, and kept to what a user chooses."""

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.object_type import ObjectType

FOR_FILES = ("schema", "tuned")  # groups that the files of configs/ refer to, and no one else


class OneAnswerLoader(ConfigLoaderImpl):
    """Reads the configuration for a process that answers one question and ends."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.repositories: dict[tuple, tuple] = {}

    def _parse_overrides_and_create_caching_repo(self, config_name: str | None, overrides: list[str]) -> tuple:
        # Hydra makes one, and reads the primary configuration, for every group: a tenth of a second in all.
        key = config_name, *overrides
        if key not in self.repositories:
            self.repositories[key] = super()._parse_overrides_and_create_caching_repo(config_name, overrides)
        return self.repositories[key]

    def get_group_options(self, group_name: str, results_filter=ObjectType.CONFIG, *arguments, **named) -> list[str]:
        if results_filter == ObjectType.GROUP and group_name not in ("", "hydra"):
            return []  # experiment/conv_gain/ holds what experiment=conv_gain takes from it by profile
        found = super().get_group_options(group_name, results_filter, *arguments, **named)
        return [name for name in found if name not in FOR_FILES]


def prepare() -> None:
    """Let Hydra use the loader."""
    hydra._internal.hydra.ConfigLoaderImpl = OneAnswerLoader  # type: ignore[misc]
