"""Check a run before anything is written: its fields, its experiment's rules, then data, model and machine."""

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

import data
from experiments.config.errors import ConfigError, nearest, one_of, unknown_word
from experiments.config.fields import choices_of, fields_of, schema_of, unknown
from experiments.config.metadata import choices, value_range
from experiments.config.schema import Config
from experiments.config.writable import check_folder, check_path, shortened
from experiments.runs.identity import LONGEST_NAME
from experiments.runs.run import Run
from experiments.runs.torchrun import num_ranks

# By the kind of data that a model takes.
FITTING = {
    "text": "python_docs, ptb_char, ...",
    "images": "digits, mnist, cifar10, ...",
    "binary": "binary_digits or binary_mnist",
    "strokes": "drawn_lines or crohme",
    "pairs": "python_docs_pairs, multi30k_captions, ...",
    "sentences": "python_docs_sentences or fiction",
    "cloze": "python_docs_cloze, wikitext2_cloze or babi",
}
# Shapes for a first look at the model, before the data are loaded: an image, and a number of classes that stands for a
# vocabulary large enough for an embedding and is divided by every number of groups.
PLACEHOLDER_SHAPES = {  # by the kind of data
    **{"text": (), "images": (3, 32, 32), "binary": (1, 28, 28), "strokes": (3,), "pairs": (2, 30)},
    **{"sentences": (3, 30), "cloze": (10_000, 60, 200)},
}
PLACEHOLDER_CLASSES = 5_040_000
WANDB_REFUSES = "/\\#?%:"  # in the name of a project or a run


def check(run: Run) -> None:
    """Refuse a run that cannot be trained, of a configuration that `check_fields` has accepted.

    Raises ConfigError, models.ModelError or data.DataError.

    What is cheap comes first. The data are loaded (a sweep needs them all the same, and they stay in memory); the model
    is built on torch's meta device, where tensors have shapes and no content.
    """
    check_place(run.cfg.runs_dir, run.id)
    check_build(run)


def check_fields(cfg: DictConfig) -> None:
    """Check what needs neither torch nor data, and no look at the run's folder. Raises ConfigError."""
    _check_norm_has_name(cfg)
    _check_names_fit_schemas(cfg)
    _check_kinds_fit_schemas(cfg)
    _check_values(cfg)
    _check_combinations(cfg)
    _check_experiment(cfg)
    check_path("runs_dir", cfg.runs_dir)


def check_place(runs_dir: str, name: str) -> None:
    """Check the folder of the run with this name. Raises ConfigError."""
    if len(name) > LONGEST_NAME or set(name) & set(WANDB_REFUSES):
        raise ConfigError(f"the run's name {shortened(name)} cannot be a folder's; choose a shorter experiment.name")
    check_folder("runs_dir", runs_dir)
    check_folder("runs_dir", f"{runs_dir}/{name}")


def check_build(run: Run) -> None:
    """Check what depends on data, model and machine: the same for every seed. Raises what `check` raises."""
    cfg = run.cfg
    from experiments.training.tasks import make_task  # here, since --help and a look at the configuration need no torch

    # Before the data, whose preparation may take a minute.
    _meta_model(run, PLACEHOLDER_SHAPES[cfg.model.kind], PLACEHOLDER_CLASSES)
    _check_backend(cfg, run.device)
    try:
        task = make_task(data.load(run.settings.data), run.settings.data, cfg.seed, device="cpu")
    except MemoryError as error:
        raise ConfigError(f"data={cfg.data.name} does not fit into memory ({error}); choose less of it") from None
    _check_memory(cfg, _meta_model(run, task.input_shape, task.num_classes), run.device)
    _check_measurements(cfg, task)


def unknown_words(name: str, manifest: dict) -> str:
    """Return a sentence on words that are evaluated and cannot have been learnt; "" where there are none to speak of.

    A text whose training split has <unk> itself, as the Penn Treebank, teaches what stands for them.
    """
    shares = manifest.get("unknown", {})
    if shares.get("train", 1.0) or max(shares["val"], shares["test"]) < 0.001:
        return ""
    parts = " and ".join(f"{shares[split]:.1%} of {split}" for split in ("val", "test"))
    return f"{parts} of data={name} are words that the training text never has: <unk>, which cannot be learnt"


def warn_of_unknown_words(runs: Iterable[Run]) -> None:
    """Print once for each data set by word what `unknown_words` says. The data are loaded already."""
    by_word = [run for run in runs if run.cfg.data.get("unit") == "word"]
    lines = {unknown_words(run.cfg.data.name, data.load(run.settings.data).manifest): None for run in by_word}
    for sentence in filter(None, lines):
        print(f"warning: {sentence}", file=sys.stderr)


# -- Each field --------------------------------------------------------------------------------------------------------


def _check_norm_has_name(cfg: DictConfig) -> None:
    if not (isinstance(cfg.norm, DictConfig) and isinstance(cfg.norm.get("name"), str)):
        raise ConfigError(f"norm={cfg.norm} has no name; choose norm=ln, or give your file the line name: ln")


def _check_names_fit_schemas(cfg: DictConfig) -> None:
    """Refuse a model.name or optim.name that was set apart from the choice that brings its fields."""
    for group in ("model", "optim"):
        schema, name = OmegaConf.get_type(cfg[group]), cfg[group].name
        of_schema = [choice for choice in choices_of(group) if schema_of(group, choice) is schema]
        if name not in of_schema:
            if not of_schema:  # another group's file, as model=../norm/ln
                raise ConfigError(unknown_word(group, name, choices_of(group)))
            others = f"the other fields, which are those of {', '.join(of_schema)}"
            remedy = f"choose a whole, as {group}={nearest(name, choices_of(group))}"
            raise ConfigError(f"{group}.name={name} does not go with {others}; {remedy}")


def _check_kinds_fit_schemas(cfg: DictConfig) -> None:
    for group in ("model", "data"):
        schema: Any = OmegaConf.get_type(cfg[group])
        kind = schema.__dataclass_fields__["kind"].default
        if cfg[group].kind != kind:
            raise ConfigError(
                f"{group}.kind={cfg[group].kind} cannot be set: {group}={cfg[group].name} is of {kind}; leave it out"
            )


def _check_values(cfg: DictConfig) -> None:
    """Check every value by what its field declares, each entry of a list by itself."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    checked = {key: node for key, node in plain.items() if key not in ("experiment", "profile")}
    for key, value in _leaves(checked):
        schema: Any = OmegaConf.get_type(cfg, key.rpartition(".")[0]) if "." in key else Config
        check_value(key, value, schema)


def _leaves(node: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield (dotted key, value); the entries of a list one by one, by the list's key."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield from ((prefix + key, entry) for entry in value)
        else:
            yield prefix + key, value


def check_value(key: str, value: object, schema: type = Config) -> None:
    """Check one value of the field `key`, which this schema declares. Raises ConfigError."""
    name = key.rpartition(".")[2]
    if value == "":
        raise ConfigError(f"{key}= is empty; give a value, or leave it out for the default")
    if allowed := choices(schema, name):
        one_of(key, value, allowed)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}={value} is not finite; give a number")
    limits = value_range(schema, name)
    if limits and isinstance(value, (int, float)) and not limits.holds(value):
        raise ConfigError(f"{key}={value} is out of range; give {limits.words}")


# -- Fields together ---------------------------------------------------------------------------------------------------


def _check_combinations(cfg: DictConfig) -> None:
    _check_names_of_folders(cfg)
    _check_names_in_wandb(cfg)
    _check_measured_once(cfg)
    _check_axes(cfg)
    _check_budget(cfg)
    _check_model_takes_data(cfg)
    _check_batch(cfg)
    _check_statistics(cfg)
    if "invariance" in cfg.trainer.measure:
        _check_invariance(cfg)
    if "train_test_gap" in cfg.trainer.measure:
        _check_gap(cfg)
    if "transfer" in cfg.trainer.measure and cfg.model.kind != "sentences":
        raise ConfigError(
            f"trainer.measure=[transfer] with model={cfg.model.name}: it is of the states of sentences; choose "
            "model=skip_thoughts, or leave it out"
        )


def _check_names_of_folders(cfg: DictConfig) -> None:
    for name, form in (("name", r"\w[\w.-]*"), ("arm", r"[\w.-]*")):
        if not re.fullmatch(form, value := cfg.experiment[name]):
            raise ConfigError(
                f"experiment.{name}={value} is a part of a folder's name; take letters, digits, _, - and ."
            )


def _check_names_in_wandb(cfg: DictConfig) -> None:
    """Refuse what wandb would refuse when the run starts: the run would go on without its mirror."""
    if set(cfg.wandb.project) & set(WANDB_REFUSES) or len(cfg.wandb.project) > 128:
        remedy = f"a project's name has none of {' '.join(WANDB_REFUSES)} and at most 128 characters"
        raise ConfigError(f"wandb.project={shortened(cfg.wandb.project)} is refused by wandb; {remedy}")
    if long := [claim.id for claim in cfg.experiment.claims if len(claim.id) > 64]:
        raise ConfigError(f"the claim {shortened(long[0])} is a tag in wandb, at most 64 characters; shorten its id")


def _check_measured_once(cfg: DictConfig) -> None:
    if repeated := [name for name, count in Counter(cfg.trainer.measure).items() if count > 1]:
        raise ConfigError(f"trainer.measure has {repeated[0]} more than once; give it once")


def _check_axes(cfg: DictConfig) -> None:
    for column, key in cfg.experiment.axes.items():
        if OmegaConf.select(cfg, key) is None and key not in fields_of("train"):
            raise ConfigError(f"experiment.axes.{column}: {unknown(key, 'train')}")


def _check_budget(cfg: DictConfig) -> None:
    budgets = [name for name in ("steps", "epochs", "examples") if cfg.trainer[name] is not None]
    if len(budgets) > 1:
        given = " ".join(f"trainer.{name}={cfg.trainer[name]}" for name in budgets)
        remedy = "give one of trainer.steps, trainer.epochs, trainer.examples"
        raise ConfigError(f"{given}: a run has one budget; {remedy}")


def _check_model_takes_data(cfg: DictConfig) -> None:
    if cfg.model.kind != cfg.data.kind:
        fitting = FITTING[cfg.model.kind]
        mismatch = f"model={cfg.model.name} takes {cfg.model.kind}, data={cfg.data.name} holds {cfg.data.kind}"
        raise ConfigError(f"{mismatch}; choose data={fitting}")


def _check_batch(cfg: DictConfig) -> None:
    batch_size, ranks = cfg.data.batch_size, num_ranks()
    if batch_size % ranks:
        nearest_size = ranks * max(1, round(batch_size / ranks))
        raise ConfigError(
            f"data.batch_size={batch_size} is the whole batch and cannot be cut into {ranks} equal shards, one a rank; "
            f"nearest: {nearest_size}"
        )
    batch_statistics = (
        "norm=bn" if cfg.norm.name == "bn" else "norm.data_init=true" if cfg.norm.get("data_init") else ""
    )
    if batch_statistics and batch_size < 2:
        raise ConfigError(
            f"{batch_statistics} needs a batch of at least two in training, got data.batch_size=1; choose a larger "
            "batch, or norm=ln or gn"
        )


def _check_statistics(cfg: DictConfig) -> None:
    if cfg.model.get("backend") == "fused" and cfg.trainer.statistics:
        given = "model.backend=fused with trainer.statistics=true"
        raise ConfigError(f"{given}: the kernels show nothing of what they compute; use model.backend=auto")


def _check_invariance(cfg: DictConfig) -> None:
    given = f"trainer.measure=[invariance] with model={cfg.model.name}"
    if cfg.model.name != "mlp":
        raise ConfigError(f"{given}: the invariances are measured on the fully connected network; choose model=mlp")
    if not cfg.model.hidden_sizes:
        raise ConfigError(f"{given}: they are of the first hidden layer, and model.hidden_sizes=[]; give one layer")
    if cfg.norm.name == "in" or cfg.norm.get("groups") == cfg.model.hidden_sizes[0]:
        raise ConfigError(
            f"{given} norm={cfg.norm.name}: each statistic is of one value; choose another norm or groups"
        )


def _check_gap(cfg: DictConfig) -> None:
    if cfg.model.kind not in ("text", "images"):
        raise ConfigError(
            f"trainer.measure=[train_test_gap] with model={cfg.model.name}: it is a gap of logits, which it lacks; "
            "choose another model, or leave it out"
        )


def _check_experiment(cfg: DictConfig) -> None:
    if sources := cfg.experiment.sources:
        name = cfg.experiment.name
        raise ConfigError(f"experiment={name} has no runs of its own; run those of {' and '.join(sources)}")


# -- Model and machine -------------------------------------------------------------------------------------------------


def _meta_model(run: Run, input_shape: tuple[int, ...], num_classes: int):
    """Return the model on the meta device: shapes without content. Raises ModelError."""
    import torch
    from torch.overrides import TorchFunctionMode

    from experiments.training.model import build_model

    class SkipNormal(TorchFunctionMode):
        """Skip normal_: on a tensor without content it only imports torch's compiler, which takes a second."""

        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if func in (torch.Tensor.normal_, torch.nn.init.normal_):
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    with torch.device("meta"), SkipNormal():
        return build_model(run, input_shape, num_classes)


def _check_backend(cfg: DictConfig, device: str) -> None:
    from models.recurrent.dispatch import machine_obstacle

    if cfg.model.get("backend") == "fused" and (reason := machine_obstacle(device)):
        raise ConfigError(f"model.backend=fused cannot run on {device}: {reason}; use model.backend=auto")


def _check_memory(cfg: DictConfig, model, device: str) -> None:
    """Refuse a model whose parameters, gradients and optimiser state do not fit; activations are not counted."""
    import psutil
    import torch

    count = sum(parameter.numel() for parameter in model.parameters())
    copies = 4 if cfg.optim.name == "adam" else 3  # weights, gradients, and Adam's two means or SGD's momentum
    needed = 4 * copies * count
    available = psutil.virtual_memory().total
    if device == "cuda" and needed > 2**30:  # asking the device starts CUDA, which takes memory itself
        available = torch.cuda.get_device_properties(0).total_memory
    if needed > available:
        sizes = " ".join(f"model.{key}={value}" for key, value in cfg.model.items() if "size" in key or key == "width")
        gigabytes = (
            f"{needed / 2**30:.3g} GB with gradients and optimiser, and this machine has {available / 2**30:.3g}"
        )
        raise ConfigError(f"{sizes} makes {count:.3g} parameters, {gigabytes}; choose smaller layers")


def _check_measurements(cfg: DictConfig, task) -> None:
    from data import sentence_eval
    from experiments.training.measurements import validation_batches

    if "train_test_gap" in cfg.trainer.measure:
        try:
            validation_batches(task)
        except ValueError as error:
            raise ConfigError(f"trainer.measure=[train_test_gap]: {error}") from None
    if "transfer" in cfg.trainer.measure and cfg.stage == "final":
        try:
            sentence_eval.check(cfg.data.root)
        except data.DataError as error:
            raise ConfigError(f"{error}; or go without, by trainer.measure=[]") from None
