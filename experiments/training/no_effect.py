"""Options that change nothing in their combination, where a run gets another name for the same numbers."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

import data


class Row(NamedTuple):
    options: str
    counts: Callable[[DictConfig], bool]  # whether they can change anything in a configuration that has them
    otherwise: str  # what is said where they cannot; {section.field} stands for its value there


def _normalises_activations(cfg: DictConfig) -> bool:
    from models.create_norm import norm_entry

    return cfg.norm.name != "none" and not norm_entry(cfg.norm.name).on_weights


def _first_gain(cfg: DictConfig) -> float:
    from models.create_norm import norm_entry

    return norm_entry(cfg.norm.name).recurrent.get("gain", 1.0) if "placement" in cfg.model else 1.0


def _on_cuda(cfg: DictConfig) -> bool:
    from experiments.runs.identity import device_name

    return device_name(cfg) == "cuda"


ROWS = (
    Row("model.placement", _normalises_activations, "with norm={norm.name}"),
    Row(
        "model.placement",
        lambda cfg: cfg.model.placement != "per_gate" or not cfg.model.name.endswith("rnn"),
        "with model={model.name}, which has one gate",
    ),
    Row(
        "model.placement",
        lambda cfg: cfg.model.placement != "per_gate" or cfg.norm.name != "bn",
        "with norm=bn, which normalises each unit by itself",
    ),
    Row("model.forget_bias", lambda cfg: cfg.model.name.endswith("lstm"), "with model={model.name}"),
    Row("model.embedding_size", lambda cfg: cfg.model.input != "onehot", "with model.input=onehot"),
    Row("model.norm_output", lambda cfg: cfg.norm.name != "none", "with norm=none"),
    Row(
        "norm.gain",
        lambda cfg: cfg.norm.gain != _first_gain(cfg),
        "with norm={norm.name}, where it starts there anyhow",
    ),
    Row("data.root", lambda cfg: bool(data.SETS[cfg.data.name].files), "with data={data.name}, which is not below it"),
    Row(
        "data.seq_len",
        lambda cfg: cfg.data.name != "binarized_mnist",
        "with data={data.name}, where a window is an image",
    ),
    Row(
        "data.revision",
        lambda cfg: not Path(cfg.data.path).expanduser().exists(),
        "with local files, as data.path={data.path}",
    ),
    Row(
        "data.noise_seed",
        lambda cfg: bool(cfg.data.noise or cfg.data.max_shift or cfg.data.contrast_low < cfg.data.contrast_high),
        "without noise, shift and contrast",
    ),
    Row(
        "optim.reference_batch",
        lambda cfg: cfg.optim.reference_batch != cfg.data.batch_size,
        "with data.batch_size={data.batch_size}",
    ),
    Row("optim.warmup_steps", lambda cfg: cfg.optim.warmup_steps != 1, "since the first step has the full rate"),
    Row("trainer.capture", _on_cuda, "on a device that is no CUDA GPU"),
    Row(
        "trainer.evaluations",
        lambda cfg: cfg.trainer.evaluations <= (cfg.trainer.steps or cfg.trainer.evaluations),
        "beyond one evaluation a step, with trainer.steps={trainer.steps}",
    ),
    Row("wandb.project wandb.entity", lambda cfg: cfg.wandb.mode != "disabled", "with wandb.mode=disabled"),
    Row("profile", lambda cfg: cfg.experiment.name != "train", "without experiment=..."),
)


def warn(arguments: list[str], configs: list[DictConfig]) -> None:
    """A line on stderr for every option on the command line that changes nothing, in all of the runs or in some.

    arguments: overrides as they were typed. configs: the configurations that they made, after check.py.
    """
    for key in dict.fromkeys(override.key_or_group for override in OverridesParser.create().parse_overrides(arguments)):
        idle = [(cfg, reason) for cfg in configs if (reason := _idle(key, cfg))]
        if idle:
            reasons = " or ".join(dict.fromkeys(reason for _, reason in idle))
            values = dict.fromkeys(_shown(key, cfg) for cfg, _ in idle)
            part = "" if len(idle) == len(configs) else f" ({len(idle)} of {len(configs)} runs)"
            print(f"warning: {key}={','.join(values)} has no effect {reasons}{part}", file=sys.stderr)


def _idle(key: str, cfg: DictConfig) -> str | None:
    """Why the option changes nothing in this configuration; None where it does, or is not set."""
    if OmegaConf.select(cfg, key) is None:
        return None
    lacking = (row for row in ROWS if key in row.options.split() and not row.counts(cfg))
    return next((row.otherwise.format_map(cfg) for row in lacking), None)


def _shown(key: str, cfg: DictConfig) -> str:
    value = OmegaConf.select(cfg, key)
    if isinstance(value, DictConfig):
        return value.name
    return str(value).lower() if isinstance(value, bool) else str(value)
