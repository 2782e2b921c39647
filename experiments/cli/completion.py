"""Tab completion is Hydra's; here its answers are made quick, and are what a user chooses: groups, fields, values."""

from hydra.core.object_type import ObjectType

from experiments.cli.hydra_private import ConfigLoaderImpl, use_loader
from experiments.config.fields import fields_of

FOR_FILES = ("schema", "shared", "tuned")  # groups that only the files of configs/ refer to


class TabLoader(ConfigLoaderImpl):
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

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """Return the choices of a group, or below "" the groups; Hydra asks so for the values of a field too."""
        if results_filter == ObjectType.GROUP and group_name not in ("", "hydra"):
            return []  # experiment/conv_gain/ holds what experiment=conv_gain takes from it by profile
        options = super().get_group_options(group_name, results_filter, config_name, overrides)
        if not options and results_filter == ObjectType.CONFIG and config_name:
            field = fields_of(config_name).get(group_name)
            return list(field.values) if field else []
        return [name for name in options if name not in FOR_FILES]


def prepare() -> None:
    """Let Hydra use the loader."""
    use_loader(TabLoader)
