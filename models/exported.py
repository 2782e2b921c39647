"""A trained network from the folder that `python -m experiments.export` wrote: no data, and no configuration."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from .build import build
from .create_norm import NormLayer
from .errors import ModelError, must_be_one_of
from .settings import SCHEMAS

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def load(folder: str | Path) -> nn.Module:
    """Return the network of an exported folder, on the CPU and in evaluation mode.

    Its config.json also has what encodes inputs: the vocabulary of a text, mean and sd of images. Needs the package
    safetensors. Raises ModelError for a folder that is not whole, or is of another version of the networks.
    """
    path = Path(folder).expanduser()
    config, weights = _config(path / CONFIG), _weights(path / WEIGHTS)
    try:
        model = _build(config)
        model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"{path}: no network of this version of the package ({type(error).__name__}: {reason}); export it again, "
            "or install the version that exported it"
        ) from None
    return model.eval()


def _build(config: dict[str, Any]) -> nn.Module:
    schemas = {schema.__name__: schema for schema in SCHEMAS.values()}
    must_be_one_of("settings", config["settings"], schemas)
    norm_layer = NormLayer(config["norm"], config["norm_options"])
    settings = schemas[config["settings"]](**config["model"])
    return build(settings, tuple(config["input_shape"]), config["num_classes"], norm_layer)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); name a folder of experiments.export") from None
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}); export the run again") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not of experiments.export: it holds no object; export the run again")
    return config


def _weights(path: Path) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError, torch
    except ImportError:
        raise ModelError("exported weights are read by the package safetensors; pip install safetensors") from None
    try:
        return torch.load(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); name a folder of experiments.export") from None
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged ({error}); export the run again") from None
