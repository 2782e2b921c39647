"""Pictures of what is inside trained networks, side by side on the same axes.

python -m experiments.inspect run=train-lstm                     all runs whose name starts so: none, bn, ln ...
python -m experiments.inspect run=[train-lstm-none,train-lstm-ln] output=pictures

Draws, each as SVG and PNG: activations; of an LSTM or GRU the saturation of its gates (Karpathy et al. 2015); of a
recurrent network the gradients through time at the start and after training (Cooijmans et al. 2016, figure 1); and,
where the runs logged them (trainer.statistics=true), mean and deviation of the summed inputs over training. Runs that
differ in their seed alone are drawn as one. All but the last are of the last checkpoint.
"""

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS
from experiments.config.schema import RUNS_DIR, settings
from experiments.config.writable import check_folder
from experiments.report.style import norms_of
from experiments.runs.folder import RunFolder
from experiments.training.load import UNITS, Trained, find_all, load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from experiments.inspect.draw import Look

MOST = 8  # cells that can be told apart in one picture


@dataclass
class Inspect:
    run: Any = field(
        default=None,
        metadata={"help": "a run's name in runs_dir, a prefix that several share, a folder, or a list of these"},
    )
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    output: str | None = field(
        default=None,
        metadata={
            "help": "folder of the pictures; null: inspect/ in the run's folder, of several runs one beside runs_dir"
        },
    )


ConfigStore.instance().store(name="inspect_schema", node=Inspect)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="inspect")
def inspect(cfg: DictConfig) -> None:
    with refusals_in_one_line("inspect"):
        given = (cfg.run if OmegaConf.is_list(cfg.run) else [cfg.run]) or [None]
        folders = {folder.path: folder for run in given for folder in find_all(run and str(run), cfg.runs_dir)}
        runs = [load(folder) for folder in folders.values()]
        cells = cells_of(runs)
        output = Path(cfg.output or default_output(runs, cfg.runs_dir))
        check_folder("output", str(output))
        pictures = draw_all(cells)
    from experiments.inspect.draw import save

    output.mkdir(parents=True, exist_ok=True)
    saved = {name: save(figure, output / name) for name, figure in pictures.items()}
    for svg, png in saved.values():
        print(f"{svg} {png}")
    show_in_wandb({name: png for name, (_, png) in saved.items()}, runs, output)


def default_output(runs: list[Trained], runs_dir: str) -> Path:
    if len(runs) == 1:
        return runs[0].folder.path / "inspect"
    return Path(runs_dir).parent / "inspect" / common_name(runs)


def common_name(runs: list[Trained]) -> str:
    """What the runs' names begin with."""
    parts = zip(*(run.folder.run_id.split("-") for run in runs), strict=False)
    return "-".join(part[0] for part in itertools.takewhile(lambda part: len(set(part)) == 1, parts)) or "runs"


# --- cells ------------------------------------------------------------------------------------------------------------


def cells_of(runs: list[Trained]) -> dict["Look", list[Trained]]:
    """Runs that differ in their seed alone are a cell. Raises ConfigError for runs that make no one picture."""
    from experiments.inspect.draw import Look

    for section in ("model", "data"):
        if len(names := dict.fromkeys(run.cfg[section].name for run in runs)) > 1:
            raise ConfigError(
                f"the {len(runs)} runs are of {section}={','.join(names)}: a picture is of one; give more of the name, "
                "or a list of names"
            )
    cells: dict[tuple, list[Trained]] = {}
    for run in runs:
        cells.setdefault(tuple(sorted(identity(run).items())), []).append(run)
    if len(cells) > MOST:
        raise ConfigError(
            f"the {len(runs)} runs are of {len(cells)} kinds, and a picture has room for {MOST}; give more "
            "of the name, or a list of names"
        )
    order = norms_of(run.cfg.norm.name for run in runs)
    looks: dict[Look, list[Trained]] = {}
    for norm in order:
        own = [(dict(key), part) for key, part in cells.items() if part[0].cfg.norm.name == norm]
        differing = [name for name in own[0][0] if len({key.get(name) for key, _ in own}) > 1]
        for place, (key, part) in enumerate(own):
            name = ", ".join([norm.upper(), *(f"{name} {key[name]}" for name in differing)])
            looks[Look.of(norm, name, place)] = part
    return looks


def identity(run: Trained) -> dict[str, str]:
    """What makes two runs networks of one kind: every field that can change the numbers, but for the seed."""
    plain: Any = OmegaConf.to_container(run.cfg, resolve=True)
    fields = {"stage": plain["stage"]}
    for section in ("model", "norm", "data", "optim", "trainer"):
        fields |= {f"{section}.{name}": str(value) for name, value in plain[section].items()}
    places = ("data.root", "data.cache", "data.path", "trainer.checkpoint_every")
    return {name: value for name, value in fields.items() if name not in places}


# --- pictures ---------------------------------------------------------------------------------------------------------


def draw_all(cells: dict["Look", list[Trained]]) -> dict[str, "Figure"]:
    """Every picture that these networks have; what one would need is said."""
    import torch

    from experiments.inspect import draw, measure

    first = next(iter(cells.values()))[0]
    torch.set_num_threads(first.cfg.threads)
    batches = measure.batches(first)  # of the validation split, the same for every run of these data
    caption = about(cells, batches)
    recurrent = hasattr(first.model, "recurrent")
    what = "$h_t$" if recurrent else "the normaliser's output"
    pictures = {
        "activations": draw.activations(
            by_cell(cells, lambda runs: measure.pooled_activations(runs, batches)), what, caption
        )
    }
    if recurrent and first.model.recurrent.cell in measure.GATES:
        found = by_cell(cells, lambda runs: measure.saturation(runs, batches))
        pictures["gates"] = draw.gates(found, caption)
    if recurrent and first.cfg.data.get("seq_len") != 1:
        found = by_cell(cells, lambda runs: measure.gradients(runs, batches))
        pictures["gradients"] = draw.gradients(found, caption)
    logged = by_cell(cells, measure.mean_summed_inputs)
    if lacking := [look.name for look, rows in logged.items() if rows.empty]:
        print(
            f"summed_inputs: {'; '.join(lacking)} logged no mean and deviation; train with trainer.statistics=true, "
            "which makes another run",
            file=sys.stderr,
        )
    if logged := {look: rows for look, rows in logged.items() if not rows.empty}:
        pictures["summed_inputs"] = draw.summed_inputs(logged, about(cells))
    return pictures


def by_cell(cells: dict["Look", list[Trained]], measured: Callable[[list[Trained]], Any]) -> dict["Look", Any]:
    return {look: measured(runs) for look, runs in cells.items()}


def about(cells: dict["Look", list[Trained]], batches: list | None = None) -> str:
    """The line under a title: network, data, how much of them, how many runs."""
    counts = sorted({len(runs) for runs in cells.values()})
    seeds = " to ".join(map(str, (counts[0], counts[-1]) if len(counts) > 1 else counts))
    cfg = next(iter(cells.values()))[0].cfg
    told = [f"{cfg.model.name} on {cfg.data.name}"]
    if batches:
        cases = sum(len(x) for x, _ in batches)
        kind = f"windows of {batches[0][0].shape[1]} {UNITS[cfg.data.unit]}s" if cfg.data.kind == "text" else "images"
        told.append(f"{cases} {kind} of the validation split")
    return "; ".join([*told, f"n = {seeds} seed{'s' * (seeds != '1')}"])


# --- wandb ------------------------------------------------------------------------------------------------------------


def show_in_wandb(pictures: dict[str, Path], runs: list[Trained], output: Path) -> None:
    """The pictures as media, where the (first) run's wandb mode asks for it, in a wandb run of their own.

    The runs of training stay as training left them: several may share a picture, and an offline run cannot be gone on
    with, only logged again under its id.
    """
    wandb_settings = settings(runs[0].cfg.wandb)
    if wandb_settings.mode == "disabled":
        return
    from experiments.runs.wandb_mirror import WandbMirror

    name = runs[0].folder.run_id if len(runs) == 1 else common_name(runs)
    place = RunFolder(output, f"{name}-inspect")
    place.path.mkdir(exist_ok=True)
    config: Any = OmegaConf.to_container(runs[0].cfg, resolve=True)
    config |= {"stage": "inspect", "norm": {"name": ",".join(norms_of(run.cfg.norm.name for run in runs))}}
    mirror = WandbMirror(wandb_settings, place, config)
    if mirror.run is None:
        return
    import wandb  # the mirror has set it up

    media: dict[str, Any] = {f"inspect/{name}": wandb.Image(str(path)) for name, path in pictures.items()}
    mirror.log(media | {"step": mirror.run.starting_step})  # the next, where the server has pictures already
    mirror.finish({"status": "done"}, exit_code=0)


def main() -> None:
    command(inspect, "inspect")
