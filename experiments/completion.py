"""Tab completion is Hydra's; here its answers are made quick, and kept to what a user chooses."""

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.object_type import ObjectType

FOR_FILES = ("schema", "tuned")  # groups that the files of configs/ refer to, and no one else


def prepare() -> None:
    """Change how this process lists groups; for a process that answers one question and ends."""
    repositories, make = {}, ConfigLoaderImpl._parse_overrides_and_create_caching_repo
    list_options = ConfigLoaderImpl.get_group_options

    def repository(loader: ConfigLoaderImpl, config_name: str | None, overrides: list[str]):
        # Hydra makes one, and reads the primary configuration, for every group: a tenth of a second in all.
        key = config_name, *overrides
        if key not in repositories:
            repositories[key] = make(loader, config_name, overrides)
        return repositories[key]

    def options(loader: ConfigLoaderImpl, group_name: str, results_filter=ObjectType.CONFIG, *more, **named):
        if results_filter == ObjectType.GROUP and group_name not in ("", "hydra"):
            return []  # experiment/conv_gain/ holds what experiment=conv_gain takes from it by profile
        found = list_options(loader, group_name, results_filter, *more, **named)
        return [name for name in found if name not in FOR_FILES]

    ConfigLoaderImpl._parse_overrides_and_create_caching_repo = repository
    ConfigLoaderImpl.get_group_options = options
