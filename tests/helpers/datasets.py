"""Data sets for the tests, and what they refuse."""

import os
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import data
from data.settings import (
    SCHEMAS,
    SplitImages,
)

CONFIGS = Path(__file__).parents[2] / "configs" / "data"


SPLITS = ("train", "val", "test")


needs_files = pytest.mark.skipif(not os.environ.get("LAYERNORM_DATA"), reason="LAYERNORM_DATA names no data folder")


def forget():
    data.loading._load.cache_clear()


def digits(**changed):
    return SplitImages(**{"name": "digits", "val": 300, "test": 300, **changed})


def refusal(settings):
    """The message of the DataError that loading raises: always one line."""
    with pytest.raises(data.DataError) as caught:
        data.load(settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def spelled(loaded, split):
    return "".join(loaded.vocabulary[index] for index in loaded.tokens[split].tolist())


def pixels(loaded, split):
    """The images before standardisation."""
    mean, sd = (torch.tensor(loaded.manifest[key]).view(-1, 1, 1) for key in ("mean", "sd"))
    return (loaded.images[split] * sd + mean).round().to(torch.uint8)


def assert_standardised(loaded):
    train = loaded.images["train"].double()
    torch.testing.assert_close(train.mean((0, 2, 3)), torch.zeros(train.shape[1]).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(train.std((0, 2, 3)), torch.ones(train.shape[1]).double(), atol=1e-3, rtol=0)


def composed(path):
    """What Hydra makes of a yaml: the schema it names, overridden by its own values; unknown keys and types raise."""
    values = OmegaConf.load(path)
    schema = re.fullmatch(r"/schema/data/(\w+)@_here_", values.pop("defaults")[0]).group(1)
    return OmegaConf.merge(OmegaConf.structured(SCHEMAS[schema]), values)
