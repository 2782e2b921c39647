"""Runs grouped into cells: the runs of one network that differ in their seed alone. A cell is a line of a picture."""

from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from data import recorded_fingerprint
from experiments.config.errors import ConfigError
from experiments.config.schema import PLACES, SECTIONS
from experiments.report.style import OTHER, STYLE, norms_of
from experiments.training.load import Trained

MAX_CELLS = 8  # that can be distinguished in one picture
DASHES = ("-", "--", ":", "-.")  # as many cells of one normaliser can be distinguished
FURTHER_MARKERS = ("<", ">", "p", "h")  # of the second cell of a normaliser, and of the next
NOT_OF_THE_NETWORK = {*PLACES, "data.path"}  # the content of a path is in the fingerprint of the data


@dataclass(frozen=True)
class Look:
    """How a cell is drawn, and its name in legends."""

    name: str
    colour: str
    marker: str
    dash: str

    @staticmethod
    def of(norm: str, name: str, index: int) -> "Look":
        """Return the look of a normaliser's cell number `index`; number 0 has the colour and marker of every figure."""
        colour, marker = STYLE.get(norm, OTHER)
        return Look(name, colour, FURTHER_MARKERS[index - 1] if index else marker, DASHES[index])

    def line(self, points: int) -> dict:
        """Return matplotlib's arguments for a line of so many points, of which about ten have a marker."""
        every = max(points // 10, 1)
        return {"color": self.colour, "marker": self.marker, "markersize": 4, "markevery": every, "linewidth": 1.3}


Cells = dict[Look, list[Trained]]


def cells_of(runs: list[Trained]) -> Cells:
    """Group runs into cells, in the order of the normalisers. Raises ConfigError for runs that fit no one picture."""
    check_same_network(runs)
    runs_of_kind: dict[tuple, list[Trained]] = {}
    for run in runs:
        runs_of_kind.setdefault(tuple(sorted(network_kind(run).items())), []).append(run)
    if len(runs_of_kind) > MAX_CELLS:
        raise ConfigError(
            f"the {len(runs)} runs are of {len(runs_of_kind)} kinds, and a picture has room for {MAX_CELLS}; give more "
            "of the name, or a list of names"
        )
    cells: Cells = {}
    for norm in norms_of(run.cfg.norm.name for run in runs):
        of_norm = {kind: group for kind, group in runs_of_kind.items() if group[0].cfg.norm.name == norm}
        if len(of_norm) > len(DASHES):
            raise ConfigError(
                f"{len(of_norm)} kinds of the runs are of norm={norm}, and a picture has room for {len(DASHES)}; give "
                "more of the name, or a list of names"
            )
        names = cell_names(norm, [dict(kind) for kind in of_norm])
        for index, (name, group) in enumerate(zip(names, of_norm.values(), strict=True)):
            cells[Look.of(norm, name, index)] = group
    return cells


def check_same_network(runs: list[Trained]) -> None:
    """Raise ConfigError if the runs differ in their model or data: a picture is of one."""
    for section in ("model", "data"):
        names = dict.fromkeys(run.cfg[section].name for run in runs)
        if len(names) > 1:
            raise ConfigError(
                f"the {len(runs)} runs are of {section}={','.join(names)}: a picture is of one; give more of the name, "
                "or a list of names"
            )
    for what, of in (
        ("layers", {str(run.cfg.model.get("num_layers", run.cfg.model.get("depth"))) for run in runs}),
        ("shapes of inputs and outputs", {str((run.input_shape, run.num_classes)) for run in runs}),
        ("data", {recorded_fingerprint(run.manifest) for run in runs}),
    ):
        if len(of) > 1:
            raise ConfigError(f"the {len(runs)} runs have different {what}: a picture is of one; give a list of names")


def network_kind(run: Trained) -> dict[str, str]:
    """Return what makes two runs networks of one kind: every field that can change the numbers, but for the seed."""
    config: Any = OmegaConf.to_container(run.cfg, resolve=True)
    fields = {"stage": config["stage"]}
    for section in SECTIONS:
        fields |= {f"{section}.{name}": str(value) for name, value in config[section].items()}
    return {name: value for name, value in fields.items() if name not in NOT_OF_THE_NETWORK}


def cell_names(norm: str, kinds: list[dict[str, str]]) -> list[str]:
    """Return a name for each kind of a normaliser: the normaliser, and the fields in which the kinds differ."""
    fields = dict.fromkeys(field for kind in kinds for field in kind)
    differing = [field for field in fields if len({kind.get(field) for kind in kinds}) > 1]
    return [
        ", ".join([norm.upper(), *(f"{field} {kind[field]}" for field in differing if field in kind)]) for kind in kinds
    ]
