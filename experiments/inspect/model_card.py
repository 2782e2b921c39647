"""The model card of a trained network: metadata for the Hugging Face hub, and a page to read."""

import shlex

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from omegaconf import DictConfig, OmegaConf

from data import SETS
from experiments.config.schema import PLACES, SECTIONS
from experiments.runs.records import read_environment
from experiments.sweeps.again import typed
from experiments.training.check import unknown_words
from experiments.training.load import Trained, defaults
from models.create_norm import norm_entry

EXAMPLE = """\
import json
from pathlib import Path

import layer_normalization

model = layer_normalization.load("{folder}")
config = json.loads(Path("{folder}", "config.json").read_text(encoding="utf-8"))"""


TASK_TYPES = {  # of the hub, by the kind of data
    "text": "text-generation",
    "images": "image-classification",
    "binary": "unconditional-image-generation",
    "strokes": "other",
    "pairs": "sentence-similarity",
    "sentences": "feature-extraction",
    "cloze": "question-answering",
}
EXAMPLES = {  # by the kind of data
    "images": "images",
    "binary": "images",
    "strokes": "pen trajectories",
    "pairs": "pairs of sentences",
    "sentences": "sentences between two others",
    "cloze": "questions",
}
OF_ANY_LENGTH = ("text", "strokes", "pairs", "sentences", "cloze")  # the kinds of data whose sequences differ in length


def model_card(trained: Trained, folder: str) -> str:
    """Return the card as Markdown with a YAML header. folder: the name of the folder that the card is in."""
    cfg, summary = trained.cfg, summary_of(trained)
    norm = norm_entry(cfg.norm.name).title
    sections = [
        f"---\n{metadata(trained)}\n---",
        f"# {trained.folder.run_id}",
        f"`{cfg.model.name}` with {norm}, {summary['parameters']:,} parameters, trained on `{cfg.data.name}`. From the "
        "reproduction of *Layer Normalization* (Ba, Kiros, Hinton 2016, arXiv 1607.06450).",
        "## Load it",
        "Install the package `layer_normalization` (`pip install .` in the repository) and safetensors, and start in "
        "the folder that holds this one. On the same machine the logits are the run's to the last bit.",
        f"```python\n{EXAMPLE.format(folder=folder)}\n```",
        inputs_and_outputs(trained),
        "## How good it is",
        table([{"metric": name, "value": f"{value:.6g}"} for name, value in metrics(summary).items()]),
        *baseline(trained),
        weights_note(trained),
        "## How it was trained",
        f"```\n{train_command(cfg)}\n```",
        recipe(trained),
        "## Data",
        *data_sources(trained),
        "## Meant for, and limits",
        limits(trained),
    ]
    return str(ModelCard("\n\n".join(sections) + "\n"))


def summary_of(trained: Trained) -> dict:
    return trained.folder.summary or {}


def table(rows: list[dict]) -> str:
    return pd.DataFrame(rows).to_markdown(index=False, tablefmt="github", disable_numparse=True)


# --- metadata ---------------------------------------------------------------------------------------------------------


def metadata(trained: Trained) -> ModelCardData:
    """Return the header: licence of the weights, data set, tags, and each metric as a result of the model index."""
    cfg = trained.cfg
    dataset = cfg.data.name
    results = []
    for metric, value in metrics(summary_of(trained)).items():
        split, name = metric.split("/", 1)
        if split == "transfer":  # of other sets
            continue
        results.append(
            EvalResult(
                task_type=TASK_TYPES[cfg.model.kind],
                dataset_type=dataset,
                dataset_name=dataset,
                dataset_split=split,
                metric_type=name,
                metric_value=value,
            )
        )
    return ModelCardData(
        license="mit",
        library_name="pytorch",
        datasets=[dataset],
        tags=["layer-normalization", cfg.model.name, f"norm-{cfg.norm.name}"],
        model_name=trained.folder.run_id,
        eval_results=results,
    )


def metrics(summary: dict) -> dict[str, float]:
    """Return the metrics of these weights, those of the test split first."""
    splits = ("test/", "transfer/", "val/", "train/")
    names = [name for split in splits for name in summary if name.startswith(split)]
    return {name: summary[name] for name in names}


def baseline(trained: Trained) -> list[str]:
    """Return what a model without memory reaches, where the data say it."""
    nats = trained.manifest.get("baseline")
    if nats is None:
        return []
    what = "word of the test split" if trained.cfg.model.kind == "sentences" else "point of the whole test trajectories"
    return [f"A model without memory has {nats['test']:.6g} nats per {what}, as a loss."]


# --- inputs and weights -----------------------------------------------------------------------------------------------


def inputs_and_outputs(trained: Trained) -> str:
    """Return what the model takes and what it returns, with shapes."""
    shape = ", ".join(map(str, ("N", *trained.input_shape)))
    if trained.cfg.model.kind == "binary":
        return (
            f"In: images ({shape}) of zeros and ones. Out: an upper bound on each negative log likelihood, (N,), "
            "in nats. `model.sample(N)` draws images."
        )
    if trained.cfg.model.kind == "strokes":
        text = ", and texts (N, U), indices of `vocabulary`, -1 past the end" if trained.cfg.model.window else ""
        return (
            "In: pen trajectories (N, T, 3) of dx, dy (downwards), each divided by its `sd` of config.json, and pen up "
            f"(0 or 1), which is -1 past the end{text}. Out: -log likelihood of all points but the first, (N,), in "
            "nats. `model.sample(points)` draws a trajectory."
        )
    if trained.cfg.model.kind == "cloze":
        _, Q, P = trained.input_shape
        return (
            f"In: int (N, {Q + P}), indices of `vocabulary` of config.json: a question, padded with 0 to {Q}, and its "
            f"passage, padded with 0 behind its end. Out: logits (N, {trained.num_classes}) of the candidates, which "
            "are the symbols from index 2 on. `model.read(...)` returns the attention over the passage as well."
        )
    if not trained.vocabulary:
        return (
            f"In: images ({shape}), each channel less its `mean` and divided by its `sd` of config.json. Out: logits "
            f"(N, {trained.num_classes})."
        )
    vocabulary = "`vocabulary` of config.json"
    if not vocabulary_is_public(trained):
        vocabulary = (
            f"the vocabulary that `data.load` makes of your own copy of {trained.cfg.data.name} (its sha256 is in "
            "config.json; the words themselves may not be handed on)"
        )
    if trained.cfg.model.kind == "pairs":
        return (
            f"In: pairs of sentences (N, 2, T), indices of {vocabulary}, 0 behind a sentence's end; words that it "
            "lacks are number 1. Out: their embeddings (N, 2, H), each non-negative and of length 1. "
            "`layer_normalization.order_embedding.scores(a, b)` compares every first sentence with every second one: "
            "the higher, the nearer."
        )
    if trained.cfg.model.kind == "sentences":
        return (
            f"In: sentences between their neighbours (N, 3, T), indices of {vocabulary}, 0 behind a sentence's end; "
            "words that it lacks are number 1. Out: -log likelihood of the two, (N, 2), in nats. "
            "`model.encode(...)` returns the states (N, H) of sentences (N, T), which are its features."
        )
    return (
        f"In: tokens (N, T), indices of {vocabulary}. Out: logits (N, T, {trained.num_classes}) of the next token, and "
        "the state, which with `start` = T is passed to the next call."
    )


def vocabulary_is_public(trained: Trained) -> bool:
    """Return whether the vocabulary may be published: words in order of first appearance spell the text's beginning."""
    return trained.cfg.data.get("unit", "word") != "word" or SETS[trained.cfg.data.name].handed_on


def weights_note(trained: Trained) -> str:
    if trained.cfg.stage == "final":
        return f"Weights of the last step, {trained.step}. The test split was evaluated once, after it."
    return f"Weights of the last step, {trained.step}. A tuning run: the test split was not evaluated."


# --- training ---------------------------------------------------------------------------------------------------------


def train_command(cfg: DictConfig) -> str:
    """Return the command that trains this model again: its choices, and every field that differs from theirs."""
    base = defaults(cfg)
    overrides = [f"{group}={cfg[group].name}" for group in ("model", "norm", "data", "optim")]
    for section in SECTIONS:
        for key, value in cfg[section].items():
            if value != base[section].get(key) and f"{section}.{key}" not in PLACES:
                plain = OmegaConf.to_object(value) if OmegaConf.is_list(value) else value
                overrides.append(f"{section}.{key}={typed(plain)}")
    overrides += [f"{key}={cfg[key]}" for key in ("stage", "seed", "threads") if cfg[key] != base[key]]
    return f"python -m experiments.train {shlex.join(overrides)}"


def recipe(trained: Trained) -> str:
    """Return a table of what a reader wants to know of the training beside its command."""
    cfg, summary = trained.cfg, summary_of(trained)
    environment = read_environment(trained.folder.path / "environment.json") or {}
    commit = environment.get("git", "unknown") + (" with uncommitted changes" if environment.get("dirty") else "")
    optim = ", ".join(f"{key} {value}" for key, value in cfg.optim.items() if key != "name" and value is not None)
    examples = EXAMPLES.get(cfg.model.kind) or f"windows of {cfg.data.seq_len}"
    rows = {
        "steps, examples, epochs": f"{summary['steps']}, {summary['examples']}, {summary['epochs']:.3g}",
        "batch": f"{cfg.data.batch_size} {examples}",
        "optimiser": f"{cfg.optim.name}: {optim}",
        "seed": cfg.seed,
        "machine": f"{environment.get('device')}, {summary['seconds']:.1f} s of training steps",
        "versions": f"torch {environment.get('torch')}, Python {environment.get('python')}",
        "commit": commit,
        "experiment": f"{cfg.experiment.name}, stage {cfg.stage}",
    }
    return table([{"training": name, "value": str(value)} for name, value in rows.items()])


# --- data and limits --------------------------------------------------------------------------------------------------


def data_sources(trained: Trained) -> list[str]:
    """Return the data set with its sizes and terms, and a table of its files with their checksums."""
    name, manifest = trained.cfg.data.name, trained.manifest
    counts = ", ".join(f"{split} {count:,}" for split, count in manifest["counts"].items())
    unit = EXAMPLES.get(trained.cfg.model.kind, "symbols")
    part = " but its vocabulary" if trained.vocabulary and vocabulary_is_public(trained) else ""
    text = (
        f"`{name}` ({counts} {unit}). Terms, as far as known: {SETS[name].terms}. Nothing of it is in these "
        f"files{part}. See data/README.md."
    )
    files = [{"file": f"`{source['file']}`", "sha256": f"`{source['sha256']}`"} for source in manifest["sources"]]
    return [text, table(files)]


def limits(trained: Trained) -> str:
    """Return what the model is for, and where what it says ends."""
    lines = [
        "Meant for studying what such a network learns, for comparing normalisers, and for checking a number of the "
        "results. It is small, trained on a small budget, and no component for a product.",
        "One seed of several: a difference between two such models means little without the others.",
        what_it_does(trained),
    ]
    if unknown := unknown_words(trained.cfg.data.name, trained.manifest):
        lines.append(f"{unknown}.")
    if trained.cfg.norm.name == "bn" and trained.cfg.model.kind in OF_ANY_LENGTH:
        lines.append("Batch normalisation has statistics for each step; beyond those of training it uses the last.")
    return "\n".join(f"- {line}" for line in lines)


def what_it_does(trained: Trained) -> str:
    """Return a sentence on what the model gives, and for which inputs."""
    data, kind = trained.cfg.data, trained.cfg.model.kind
    match kind:
        case "pairs" | "sentences":
            return f"It reads sentences like those of {data.name}, of at most {data.max_length} words."
        case "cloze":
            return f"It chooses among {trained.num_classes} candidates, for questions like those of {data.name}."
        case "binary" | "strokes":
            return f"It draws {EXAMPLES[kind]} like those of {data.name}."
        case "text":
            return (
                f"It was trained on windows of {data.seq_len} symbols from a zero state, on one text alone: what it "
                "writes is neither true nor checked."
            )
        case _:
            return f"It distinguishes {trained.num_classes} classes of images like those of {data.name}."
