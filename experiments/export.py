"""A trained model to take away: weights as safetensors, what rebuilds the network, and a model card.

python -m experiments.export run=train-lstm-ln output=exported/lstm-ln

Writes model.safetensors (names as in the state dict; a weight-normalised matrix as its g and v), config.json and
README.md, whose example is all that is needed to load the model: models/ and these files, no data.
"""

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from data import SETS
from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS
from experiments.config.schema import norm_options, settings
from experiments.config.writable import check_folder
from experiments.runs.folder import read_json, write_atomically
from experiments.training.load import Trained, defaults, find, load

NAMES = {"bn": "batch", "ln": "layer", "wn": "weight", "gn": "group", "in": "instance", "rms": "RMS"}
EXAMPLE = """\
import json
from pathlib import Path
import models.settings
from models.build import build
from models.create_norm import NormLayer
from safetensors.torch import load_file

folder = Path("{folder}")
config = json.loads((folder / "config.json").read_text())
settings = getattr(models.settings, config["settings"])(**config["model"])
norm_layer = NormLayer(config["norm"], config["norm_options"])
model = build(settings, tuple(config["input_shape"]), config["num_classes"], norm_layer)
model.load_state_dict(load_file(folder / "model.safetensors"))
model.eval()"""


@dataclass
class Export:
    run: str | None = None  # a run's name in runs_dir, the start of one that no other shares, or its folder
    runs_dir: str = "results/runs"  # folder of the run folders; relative to the working directory
    output: str | None = None  # the folder that the three files go to


ConfigStore.instance().store(name="export_schema", node=Export)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="export")
def export(cfg: DictConfig) -> None:
    with refusals_in_one_line("export"):
        folder = find(cfg.run, cfg.runs_dir)
        if cfg.output is None:
            raise ConfigError(f"output= is missing; name a folder, as output=exported/{folder.run_id}")
        check_folder("output", cfg.output)
        if not folder.finished or folder.state != "done":
            raise ConfigError(
                f"{folder.path} is {folder.state}: a model card tells how good a model is, so the run must be done; "
                + ("choose another" if folder.state == "diverged" else "the command that began it goes on with it")
            )
        trained, output = load(folder), Path(cfg.output)
    write(trained, output)
    print(f"exported: {output.resolve()}")


def write(trained: Trained, output: Path) -> None:
    from safetensors.torch import save

    # Copies, since two names of one tensor, as of a tied embedding, are not for safetensors.
    weights = {name: tensor.clone().contiguous() for name, tensor in trained.model.state_dict().items()}
    files = {
        "model.safetensors": save(weights, {"format": "pt", "run_id": trained.folder.run_id}),
        "config.json": (json.dumps(description(trained), indent=1) + "\n").encode(),
        "README.md": card(trained, output).encode(),
    }
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomically(output / name, lambda file, content=content: file.write(content))


def description(trained: Trained) -> dict:
    """What models.build needs, and what turns inputs into the model's and its outputs into something readable."""
    model = settings(trained.cfg.model)
    told = {
        "run_id": trained.folder.run_id,
        "settings": type(model).__name__,  # of models.settings
        "model": asdict(model),
        "norm": trained.cfg.norm.name,
        "norm_options": norm_options(trained.cfg),
        "input_shape": trained.input_shape,
        "num_classes": trained.num_classes,
    }
    if not trained.vocabulary:
        return told | {
            name: trained.manifest[name] for name in ("mean", "sd")
        }  # of each channel: images less mean, by sd
    told["unit"] = trained.cfg.data.unit
    if may_list(trained):
        return told | {"vocabulary": trained.vocabulary}
    words = json.dumps(trained.vocabulary).encode()
    return told | {"vocabulary_sha256": hashlib.sha256(words).hexdigest()}


def may_list(trained: Trained) -> bool:
    """Whether the vocabulary may be given to others: words in order of first appearance spell the text's beginning."""
    return trained.cfg.data.unit != "word" or SETS[trained.cfg.data.name].handed_on


# --- the model card ---------------------------------------------------------------------------------------------------


def card(trained: Trained, output: Path) -> str:
    cfg, summary = trained.cfg, trained.folder.summary or {}
    norm = f"{NAMES[cfg.norm.name]} normalisation" if cfg.norm.name in NAMES else "no normalisation"
    if cfg.norm.name not in (*NAMES, "none"):
        norm = f"the normaliser {cfg.norm.name}"
    sections = [
        f"---\nlibrary_name: pytorch\ntags: [layer-normalization, {cfg.model.name}, norm-{cfg.norm.name}]\n---",
        f"# {trained.folder.run_id}",
        f"`{cfg.model.name}` with {norm}, {summary['parameters']:,} parameters, trained on `{cfg.data.name}`. From the "
        "reproduction of *Layer Normalization* (Ba, Kiros, Hinton 2016, arXiv 1607.06450).",
        "## Load it",
        "With the repository's root on the PYTHONPATH, from the folder that holds this one. On the same machine the "
        f"logits are the run's to the last bit.\n\n```python\n{EXAMPLE.format(folder=output.absolute().name)}\n```",
        inputs(trained),
        "## How good it is",
        table(("metric", "value"), metrics(summary)),
        f"Weights of the last step, {trained.step}. The test split was looked at once, after it."
        if cfg.stage == "final"
        else f"Weights of the last step, {trained.step}. A tuning run: the test split was not looked at.",
        "## How it was trained",
        f"```\n{train_command(cfg)}\n```",
        recipe(trained),
        "## Data",
        sources(trained),
        "## Meant for, and limits",
        limits(trained),
    ]
    return "\n\n".join(sections) + "\n"


def table(header: tuple[str, ...], lines: list[tuple]) -> str:
    shown = [header, ("---",) * len(header), *lines]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in shown)


def metrics(summary: dict) -> list[tuple[str, str]]:
    """What the summary tells of these weights, the test split first."""
    found = [name for split in ("test/", "val/", "train/") for name in summary if name.startswith(split)]
    return [(name, f"{summary[name]:.6g}") for name in found]


def inputs(trained: Trained) -> str:
    """What goes in and what comes out."""
    if not trained.vocabulary:
        shape = ", ".join(map(str, ("N", *trained.input_shape)))
        return (
            f"In: images ({shape}), each channel less its `mean` and divided by its `sd` of config.json. Out: logits "
            f"(N, {trained.num_classes})."
        )
    where = "`vocabulary` of config.json"
    if not may_list(trained):
        where = (
            f"the vocabulary that `data.load` makes of your own copy of {trained.cfg.data.name} (its sha256 is in "
            "config.json; the words themselves may not be handed on)"
        )
    return (
        f"In: tokens (N, T), places in {where}. Out: logits (N, T, {trained.num_classes}) of the next token, and the "
        "state, which with `start` = T goes into the next call."
    )


def train_command(cfg: DictConfig) -> str:
    """The command whose run computes the same: the choices, and every field that is not as they have it."""
    base = defaults(cfg)
    chosen = [f"{group}={cfg[group].name}" for group in ("model", "norm", "data", "optim")]
    for section in ("model", "norm", "data", "optim", "trainer"):
        for key, value in cfg[section].items():
            if value != base[section].get(key) and key not in ("root", "cache", "checkpoint_every"):
                chosen.append(f"{section}.{key}={_as_override(value)}")
    chosen += [f"{key}={cfg[key]}" for key in ("stage", "seed", "threads") if cfg[key] != base[key]]
    return f"python -m experiments.train {shlex.join(chosen)}"


def _as_override(value) -> str:
    if OmegaConf.is_list(value):
        return f"[{','.join(map(str, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def recipe(trained: Trained) -> str:
    cfg, summary = trained.cfg, trained.folder.summary or {}
    environment = read_json(trained.folder.path / "environment.json") or {}
    commit = environment.get("git", "unknown") + (" with uncommitted changes" if environment.get("dirty") else "")
    optim = ", ".join(f"{key} {value}" for key, value in cfg.optim.items() if key != "name" and value is not None)
    return table(
        ("", ""),
        [
            ("steps, examples, epochs", f"{summary['steps']}, {summary['examples']}, {summary['epochs']:.3g}"),
            (
                "batch",
                f"{cfg.data.batch_size}" + (f" windows of {cfg.data.seq_len}" if trained.vocabulary else " images"),
            ),
            ("optimiser", f"{cfg.optim.name}: {optim}"),
            ("seed", cfg.seed),
            ("machine", f"{environment.get('device')}, {summary['seconds']:.1f} s of training steps"),
            ("versions", f"torch {environment.get('torch')}, Python {environment.get('python')}"),
            ("commit", commit),
            ("experiment", f"{cfg.experiment.name}, stage {cfg.stage}"),
        ],
    )


def sources(trained: Trained) -> str:
    """The set, its terms, the files and their checksums."""
    name, manifest = trained.cfg.data.name, trained.manifest
    counts = ", ".join(f"{split} {count:,}" for split, count in manifest["counts"].items())
    files = [(f"`{source['file']}`", f"`{source['sha256']}`") for source in manifest["sources"]]
    return (
        f"`{name}` ({counts} {'symbols' if trained.vocabulary else 'images'}). Terms, as far as known: "
        f"{SETS[name].terms}. Nothing of it is in these files"
        + (" but its vocabulary" if trained.vocabulary and may_list(trained) else "")
        + f". See data/README.md.\n\n{table(('file', 'sha256'), files)}"
    )


def limits(trained: Trained) -> str:
    cfg = trained.cfg
    told = [
        "Meant for looking at what such a network learns, for comparing normalisers, and for checking a number of the "
        "results. It is small, trained on a small budget, and no component for a product.",
        "One seed of several: a difference between two such models says little without the others.",
    ]
    if trained.vocabulary:
        told.append(
            f"It was trained on windows of {cfg.data.seq_len} symbols from a zero state, and knows nothing but its "
            "text: what it writes is neither true nor checked."
        )
        if cfg.norm.name == "bn":
            told.append("Batch normalisation keeps statistics by step; beyond those of training it takes the last.")
    else:
        told.append(f"It tells {trained.num_classes} classes apart on images like those of {cfg.data.name}, no others.")
    return "\n".join(f"- {line}" for line in told)


def main() -> None:
    command(export, "export")


if __name__ == "__main__":
    main()
