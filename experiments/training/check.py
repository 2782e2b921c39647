"""What is refused, before anything is written: fields, rules, and whatever data, model and machine refuse."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

import data
from experiments.config.errors import ConfigError, nearest
from experiments.config.experiment import check_claim
from experiments.config.fields import choices_of, fields_of, schema_of, unknown
from experiments.config.schema import norm_options, settings
from experiments.config.writable import check_folder, check_path, shortened
from experiments.runs.identity import device_name, run_id
from experiments.runs.torchrun import num_ranks


class Range(NamedTuple):
    words: str
    holds: Callable[[float], bool]


def between(least: int, most: int) -> Range:
    return Range(f"a whole number from {least} to {most}", lambda value: least <= value <= most)


MOST = 2**31 - 1
RANGES = {
    # Beyond these a model is made of more numbers than any machine holds, or takes minutes to be put together.
    between(1, 2**20): "model.hidden_size model.hidden_sizes model.embedding_size model.width data.canvas",
    between(1, 1000): "model.num_layers model.depth threads",
    between(1, 10**6): "trainer.evaluations",
    between(1, MOST): (
        "trainer.steps trainer.epochs trainer.examples trainer.log_every optim.reference_batch data.batch_size "
        "data.eval_batch_size data.seq_len data.blocks data.copies data.eval_copies"
    ),
    between(0, MOST): "seed data.split_seed data.noise_seed optim.warmup_steps",
    between(-MOST, MOST): "data.val data.test data.train_examples data.pool data.max_shift norm.groups",
    Range("a number above 0", lambda value: value > 0): "optim.lr optim.clip model.input_scale",
    Range("0 or a number above it", lambda value: value >= 0): (
        "optim.weight_decay data.noise data.contrast_low trainer.checkpoint_every"
    ),
    Range("0 or a number above it, below 1", lambda value: 0 <= value < 1): (
        "optim.beta1 optim.beta2 optim.momentum model.dropout"
    ),
}
RANGE_OF = {key: allowed for allowed, keys in RANGES.items() for key in keys.split()}
WORDS = {
    "stage": ("tune", "final"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "wandb.mode": ("online", "offline", "disabled"),
    "optim.schedule": ("constant", "cosine", "step"),
    "trainer.measure": ("invariance", "train_test_gap"),
}
# An image; a vocabulary that asks for an embedding, or a number of classes that every number of groups divides.
STAND_IN = (3, 32, 32), 5_040_000


def check(cfg: DictConfig) -> None:
    """Refuse a run that cannot be. Raises ConfigError, models.ModelError or data.DataError.

    What is cheap comes first. The data are loaded (a sweep needs them all the same, and they stay in memory); the model
    is built on torch's meta device, where tensors have shapes and no content.
    """
    check_fields(cfg)
    check_place(cfg.runs_dir, run_id(cfg))
    check_build(cfg)


def check_build(cfg: DictConfig) -> None:
    """The part of `check` that asks data, model and machine: the same for every seed. Raises what `check` raises."""
    device = device_name(cfg)
    from experiments.training.tasks import make_task  # here, since --help and a look at the configuration need no torch

    _meta_model(cfg, *STAND_IN)  # before the data, which may take a minute to be prepared
    _check_backend(cfg, device)
    try:
        task = make_task(data.load(settings(cfg.data)), settings(cfg.data), cfg.seed, device="cpu")
    except MemoryError as error:
        raise ConfigError(f"data={cfg.data.name} does not fit into memory ({error}); choose less of it") from None
    _check_memory(cfg, _meta_model(cfg, task.input_shape, task.num_classes), device)
    _check_measurements(cfg, task)


def check_fields(cfg: DictConfig) -> None:
    """The part of `check` that needs neither torch nor data, and no look at the run's folder. Raises ConfigError."""
    _check_schemas(cfg)
    plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    for key, value in _values({key: node for key, node in plain.items() if key not in ("experiment", "profile")}):
        check_value(key, value)
    _check_combinations(cfg)
    if sources := cfg.experiment.sources:
        name = cfg.experiment.name
        raise ConfigError(f"experiment={name} has no runs of its own; run those of {' and '.join(sources)}")
    for claim in settings(cfg.experiment).claims:
        check_claim(claim)
    check_path("runs_dir", cfg.runs_dir)


# -- Fields ------------------------------------------------------------------------------------------------------------


def _check_schemas(cfg: DictConfig) -> None:
    """The names and kinds that a choice brings along are not set apart from it."""
    if not (isinstance(cfg.norm, DictConfig) and isinstance(cfg.norm.get("name"), str)):
        raise ConfigError(f"norm={cfg.norm} has no name; choose norm=ln, or give your file the line name: ln")
    for group in ("model", "optim"):
        choices, declared = choices_of(group), OmegaConf.get_type(cfg[group])
        if (name := cfg[group].name) not in (fitting := [c for c in choices if schema_of(group, c) is declared]):
            others = f"the other fields, which are those of {', '.join(fitting)}"
            remedy = f"choose a whole, as {group}={nearest(name, choices)}"
            raise ConfigError(f"{group}.name={name} does not go with {others}; {remedy}")
    for group in ("model", "data"):
        schema: Any = OmegaConf.get_type(cfg[group])
        kind = schema.__dataclass_fields__["kind"].default
        if cfg[group].kind != kind:
            raise ConfigError(
                f"{group}.kind={cfg[group].kind} cannot be set: {group}={cfg[group].name} is of {kind}; leave it out"
            )


def _values(node, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every value by its dotted key; those of a list one by one, by the list's key."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _values(value, f"{prefix}{key}.")
        else:
            yield from ((prefix + key, each) for each in (value if isinstance(value, list) else [value]))


def check_value(key: str, value) -> None:
    """Refuse a value that its field never has. Raises ConfigError."""
    if value == "":
        raise ConfigError(f"{key}= is empty; give a value, or leave it out for the default")
    if key in WORDS:
        _one_of(key, value, WORDS[key])
    if type(value) is float and not math.isfinite(value):
        raise ConfigError(f"{key}={value} is not finite; give a number")
    if key in RANGE_OF and type(value) in (int, float) and not RANGE_OF[key].holds(value):
        raise ConfigError(f"{key}={value} is out of range; give {RANGE_OF[key].words}")


def _check_combinations(cfg: DictConfig) -> None:
    for name, form in (("name", r"\w[\w.-]*"), ("arm", r"[\w.-]*")):
        if not re.fullmatch(form, given := cfg.experiment[name]):
            raise ConfigError(
                f"experiment.{name}={given} is a part of a folder's name; take letters, digits, _, - and ."
            )
    for column, key in cfg.experiment.axes.items():
        if OmegaConf.select(cfg, key) is None and key not in fields_of("train"):
            raise ConfigError(f"experiment.axes.{column}: {unknown(key, 'train')}")
    budgeted = [name for name in ("steps", "epochs", "examples") if cfg.trainer[name] is not None]
    if len(budgeted) > 1:
        budgets = " ".join(f"trainer.{name}={cfg.trainer[name]}" for name in budgeted)
        choices = "trainer.steps, trainer.epochs, trainer.examples"
        raise ConfigError(f"{budgets}: a run has one budget; give one of {choices}")
    if cfg.model.kind != cfg.data.kind:
        fitting = "python_docs, ptb_char, ..." if cfg.model.kind == "text" else "digits, mnist, cifar10, ..."
        taken = f"model={cfg.model.name} takes {cfg.model.kind}, data={cfg.data.name} holds {cfg.data.kind}"
        raise ConfigError(f"{taken}; choose data={fitting}")
    if cfg.data.batch_size % num_ranks():
        given, near = f"data.batch_size={cfg.data.batch_size}", max(1, round(cfg.data.batch_size / num_ranks()))
        shares = f"is the whole batch and cannot be cut into {num_ranks()} equal shares, one a rank"
        raise ConfigError(f"{given} {shares}; nearest: {near * num_ranks()}")
    whole_batch = "norm=bn" if cfg.norm.name == "bn" else "norm.data_init=true" if cfg.norm.get("data_init") else ""
    if whole_batch and cfg.data.batch_size < 2:
        remedy = "choose a larger batch, or norm=ln or gn"
        raise ConfigError(f"{whole_batch} needs a batch of at least two in training, got data.batch_size=1; {remedy}")
    if cfg.model.get("backend") == "fused" and cfg.trainer.statistics:
        given = "model.backend=fused with trainer.statistics=true"
        raise ConfigError(f"{given}: the kernels show nothing of what they compute; use model.backend=auto")
    if "invariance" in cfg.trainer.measure:
        _check_invariance(cfg)


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


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(
            f"{key}={value} is unknown; allowed: {', '.join(allowed)}; nearest: {nearest(value, allowed)}"
        )


# -- Place, model and machine ------------------------------------------------------------------------------------------


def check_place(runs_dir: str, name: str) -> None:
    """The part of `check` that looks at the folder of the run with this name. Raises ConfigError."""
    if len(name) > 200 or set(name) & set("/\\#?%:"):
        raise ConfigError(f"the run's name {shortened(name)} cannot be a folder's; choose a shorter experiment.name")
    check_folder("runs_dir", runs_dir)
    check_folder("runs_dir", f"{runs_dir}/{name}")


def _meta_model(cfg: DictConfig, input_shape: tuple[int, ...], num_classes: int):
    """The model without content. Raises ModelError."""
    import torch
    from torch.overrides import TorchFunctionMode

    from models.build import build
    from models.create_norm import NormLayer

    class Unfilled(TorchFunctionMode):
        """On a tensor without content normal_ does nothing but import torch's compiler, which takes a second."""

        def __torch_function__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            if func in (torch.Tensor.normal_, torch.nn.init.normal_):
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    with torch.device("meta"), Unfilled():
        return build(settings(cfg.model), input_shape, num_classes, NormLayer(cfg.norm.name, norm_options(cfg)))


def _check_backend(cfg: DictConfig, device: str) -> None:
    from models.recurrent.dispatch import machine_obstacle

    if cfg.model.get("backend") == "fused" and (reason := machine_obstacle(device)):
        raise ConfigError(f"model.backend=fused cannot run on {device}: {reason}; use model.backend=auto")


def _check_memory(cfg: DictConfig, model, device: str) -> None:
    """Refuse a model that cannot be held in training. What its activations need is not known before they are there."""
    import psutil
    import torch

    count = sum(parameter.numel() for parameter in model.parameters())
    copies = 4 if cfg.optim.name == "adam" else 3  # weights, gradients, and Adam's two means or SGD's momentum
    needed, there = 4 * copies * count, psutil.virtual_memory().total
    if device == "cuda" and needed > 2**30:  # asking the device starts CUDA, which holds memory itself
        there = torch.cuda.get_device_properties(0).total_memory
    if needed > there:
        sizes = " ".join(f"model.{key}={value}" for key, value in cfg.model.items() if "size" in key or key == "width")
        room = f"{needed / 2**30:.3g} GB with gradients and optimiser, and this machine has {there / 2**30:.3g}"
        raise ConfigError(f"{sizes} makes {count:.3g} parameters, {room}; choose smaller layers")


def _check_measurements(cfg: DictConfig, task) -> None:
    from experiments.training.measurements import validation_batches

    if "train_test_gap" in cfg.trainer.measure:
        try:
            validation_batches(task)
        except ValueError as error:
            raise ConfigError(f"trainer.measure=[train_test_gap]: {error}") from None
