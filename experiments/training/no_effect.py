"""Warn of options that change nothing in their combination, where a run gets another name for the same numbers."""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

import data


class IdleOption(NamedTuple):
    option: str
    idle: Callable[[DictConfig], bool]  # whether it changes nothing in this configuration, which has the option
    reason: str  # printed behind "has no effect"; {section.field} stands for its value there


def _normalises_no_activations(cfg: DictConfig) -> bool:
    from models.create_norm import norm_entry

    return cfg.norm.name == "none" or norm_entry(cfg.norm.name).on_weights


def _per_gate_without_gates(cfg: DictConfig) -> bool:
    return cfg.model.placement == "per_gate" and cfg.model.name.endswith("rnn")


def _per_gate_of_single_units(cfg: DictConfig) -> bool:
    return cfg.model.placement == "per_gate" and cfg.norm.name == "bn"


def _no_forget_gate(cfg: DictConfig) -> bool:
    return cfg.model.name.endswith(("rnn", "gru", "order_embedding", "skip_thoughts"))


def _no_embedding(cfg: DictConfig) -> bool:
    return cfg.model.get("input") == "onehot"


def _no_normaliser(cfg: DictConfig) -> bool:
    return cfg.norm.name == "none"


def _default_gain(cfg: DictConfig) -> bool:
    from models.create_norm import norm_entry

    recurrent = "placement" in cfg.model
    default = norm_entry(cfg.norm.name).recurrent.get("gain", 1.0) if recurrent else 1.0
    return cfg.norm.gain == default


def _needs_no_files(cfg: DictConfig) -> bool:
    return not data.SETS[cfg.data.name].files and "transfer" not in cfg.trainer.measure


def _window_is_an_image(cfg: DictConfig) -> bool:
    return cfg.data.name == "binarized_mnist"


def _local_files(cfg: DictConfig) -> bool:
    return os.path.exists(os.path.expanduser(cfg.data.path))


def _no_noise(cfg: DictConfig) -> bool:
    return not (cfg.data.noise or cfg.data.max_shift or cfg.data.contrast_low < cfg.data.contrast_high)


def _reference_is_the_batch(cfg: DictConfig) -> bool:
    return cfg.optim.reference_batch == cfg.data.batch_size


def _one_step_of_warmup(cfg: DictConfig) -> bool:
    return cfg.optim.warmup_steps == 1


def _not_on_cuda(cfg: DictConfig) -> bool:
    from experiments.runs.identity import device_name

    return device_name(cfg) != "cuda"


def _more_evaluations_than_steps(cfg: DictConfig) -> bool:
    return cfg.trainer.steps is not None and cfg.trainer.evaluations > cfg.trainer.steps


def _wandb_disabled(cfg: DictConfig) -> bool:
    return cfg.wandb.mode == "disabled"


def _no_experiment(cfg: DictConfig) -> bool:
    return cfg.experiment.name == "train"


IDLE_OPTIONS = (
    IdleOption("model.placement", _normalises_no_activations, "with norm={norm.name}"),
    IdleOption("model.placement", _per_gate_without_gates, "with model={model.name}, which has one gate"),
    IdleOption("model.placement", _per_gate_of_single_units, "with norm=bn, which normalises each unit by itself"),
    IdleOption("model.forget_bias", _no_forget_gate, "with model={model.name}"),
    IdleOption("model.embedding_size", _no_embedding, "with model.input=onehot"),
    IdleOption("model.norm_output", _no_normaliser, "with norm=none"),
    IdleOption("norm.gain", _default_gain, "with norm={norm.name}, where it is the default"),
    IdleOption("data.root", _needs_no_files, "with data={data.name}, which is not below it"),
    IdleOption("data.seq_len", _window_is_an_image, "with data={data.name}, where a window is an image"),
    IdleOption("data.revision", _local_files, "with local files, as data.path={data.path}"),
    IdleOption("data.noise_seed", _no_noise, "without noise, shift and contrast"),
    IdleOption("optim.reference_batch", _reference_is_the_batch, "with data.batch_size={data.batch_size}"),
    IdleOption("optim.warmup_steps", _one_step_of_warmup, "since the first step has the full rate"),
    IdleOption("trainer.capture", _not_on_cuda, "on a device that is no CUDA GPU"),
    IdleOption(
        "trainer.evaluations",
        _more_evaluations_than_steps,
        "beyond one evaluation a step, with trainer.steps={trainer.steps}",
    ),
    IdleOption("wandb.project", _wandb_disabled, "with wandb.mode=disabled"),
    IdleOption("wandb.entity", _wandb_disabled, "with wandb.mode=disabled"),
    IdleOption("profile", _no_experiment, "without experiment=..."),
)


def warn(arguments: list[str], configs: list[DictConfig]) -> None:
    """Print a line on stderr for every option on the command line that changes nothing, in all of the runs or in some.

    arguments: overrides as they were typed. configs: the configurations that they made, after check.py.
    """
    for key in dict.fromkeys(override.key_or_group for override in OverridesParser.create().parse_overrides(arguments)):
        idle = [(cfg, reason) for cfg in configs if (reason := _why_idle(key, cfg))]
        if idle:
            reasons = " or ".join(dict.fromkeys(reason for _, reason in idle))
            values = dict.fromkeys(_shown(key, cfg) for cfg, _ in idle)
            part = "" if len(idle) == len(configs) else f" ({len(idle)} of {len(configs)} runs)"
            print(f"warning: {key}={','.join(values)} has no effect {reasons}{part}", file=sys.stderr)


def _why_idle(key: str, cfg: DictConfig) -> str | None:
    """Return why the option changes nothing in this configuration; None where it does, or is not set."""
    if OmegaConf.select(cfg, key) is None:
        return None
    reasons = (row.reason for row in IDLE_OPTIONS if row.option == key and row.idle(cfg))
    return next((reason.format_map(cfg) for reason in reasons), None)


def _shown(key: str, cfg: DictConfig) -> str:
    value = OmegaConf.select(cfg, key)
    if isinstance(value, DictConfig):
        return value.name
    return str(value).lower() if isinstance(value, bool) else str(value)
