"""What is refused, before anything is written: fields, rules, and whatever data, model and optimiser refuse."""

import math
import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

import data
from experiments.config import Claim, ConfigError, device_name, nearest, norm_options, run_id, settings
from experiments.torchrun import num_ranks


def check(cfg: DictConfig) -> None:
    """Refuse a run that cannot be. Raises ConfigError, models.ModelError or data.DataError.

    The data are loaded (a sweep needs them all the same, and they stay in memory); model and optimiser are built on
    torch's meta device, where tensors have shapes and no content.
    """
    _check_fields(cfg)
    for claim in settings(cfg.experiment).claims:
        check_claim(claim)
    _check_place(cfg)
    device_name(cfg)
    import torch  # here, since --help and a look at the configuration need none

    from experiments.optimisation import make_optimizer
    from experiments.tasks import make_task
    from models.build import build

    task = make_task(data.load(settings(cfg.data)), settings(cfg.data), cfg.seed, device="cpu")
    with torch.device("meta"):
        model = build(settings(cfg.model), task.input_shape, task.num_classes, cfg.norm.name, norm_options(cfg))
    try:
        make_optimizer(model, settings(cfg.optim))
    except ValueError as error:
        raise ConfigError(f"optim={cfg.optim.name} refuses its settings ({error}); see experiments/config.py") from None


def check_claim(claim: Claim) -> None:
    """Refuse a rule that could not be judged, before its runs. Raises ConfigError."""
    name = f"claim {claim.id}"
    _one_of(f"{name}: kind", claim.kind, ("difference", "interaction", "share", "share_contrast", "exact"))
    _one_of(f"{name}: claimed", claim.claimed, ("lower", "higher", "same", "not_higher"))
    if claim.kind == "interaction" and len(claim.at) != 2:
        raise ConfigError(f"{name}: at={list(claim.at)} must be two cells; give at: [{{...: small}}, {{...: large}}]")
    if claim.kind == "share_contrast" and len(claim.families) != 2:
        raise ConfigError(f"{name}: {len(claim.families)} families given; a contrast is between two, give both")
    if claim.kind == "exact" and not (claim.holds or claim.breaks):
        raise ConfigError(f"{name}: neither holds nor breaks names a column; give one, as holds: [gap/output]")
    if claim.kind in ("difference", "interaction") and claim.margin <= 0:
        raise ConfigError(f"{name}: margin={claim.margin:g} must be positive; give the smallest effect of interest")


def _check_fields(cfg: DictConfig) -> None:
    _one_of("stage", cfg.stage, ("tune", "final"))
    _one_of("wandb.mode", cfg.wandb.mode, ("online", "offline", "disabled"))
    _one_of("optim.name", cfg.optim.name, ("adam", "sgd"))
    for name in cfg.trainer.measure:
        _one_of("trainer.measure", name, ("invariance", "train_test_gap"))
    if "invariance" in cfg.trainer.measure and cfg.model.name != "mlp":
        given = f"trainer.measure=[invariance] with model={cfg.model.name}"
        raise ConfigError(f"{given}: the invariances are measured on the fully connected network; choose model=mlp")
    _one_of("optim.schedule", cfg.optim.schedule, ("constant", "cosine", "step"))
    sizes = [f"model.{key}" for key, value in cfg.model.items() if type(value) is int]
    _positive(cfg, "data.batch_size", "data.eval_batch_size", "data.seq_len", "model.input_scale", *sizes)
    _positive(cfg, "optim.lr", "optim.clip", "optim.reference_batch", "threads")
    _positive(cfg, *(f"trainer.{name}" for name in ("steps", "epochs", "examples", "evaluations", "log_every")))
    for key in ("data.noise", "data.split_seed", "data.noise_seed", "optim.warmup_steps", "seed"):
        if (value := OmegaConf.select(cfg, key)) is not None and not 0 <= value < 2**31:
            raise ConfigError(f"{key}={value} is out of range; give 0 or a number above it, below 2**31")
    if any(size < 1 for size in cfg.model.get("hidden_sizes", [])):
        raise ConfigError(f"model.hidden_sizes={list(cfg.model.hidden_sizes)}: every layer needs at least one unit")
    if not 0 <= cfg.model.get("dropout", 0.0) < 1:
        raise ConfigError(f"model.dropout={cfg.model.dropout} is no probability below 1; give 0 <= model.dropout < 1")
    given = [name for name in ("steps", "epochs", "examples") if cfg.trainer[name] is not None]
    if len(given) > 1:
        budgets = " ".join(f"trainer.{name}={cfg.trainer[name]}" for name in given)
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
    if cfg.norm.name == "bn" and cfg.data.batch_size < 2:
        raise ConfigError("norm=bn needs a batch of at least two in training, got data.batch_size=1; use norm=ln or gn")


def _check_place(cfg: DictConfig) -> None:
    if "/" in (name := run_id(cfg)):
        raise ConfigError(f"the run's name {name} holds a slash; choose experiment.name without one")
    path = Path(cfg.runs_dir).absolute()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(f"runs_dir={cfg.runs_dir} cannot be written: {there} is no writable folder; choose another")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(
            f"{key}={value} is unknown; allowed: {', '.join(allowed)}; nearest: {nearest(value, allowed)}"
        )


def _positive(cfg: DictConfig, *keys: str) -> None:
    for key in keys:
        value = OmegaConf.select(cfg, key)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"{key}={value} must be positive; give a number above 0")
