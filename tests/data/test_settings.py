"""Every set has its settings and its yaml; settings and fingerprint load nothing heavy."""

import os
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

import data
from data.settings import (
    ImageData,
    TextData,
    TextFile,
)
from tests.helpers.datasets import CONFIGS, composed, refusal


@pytest.mark.parametrize("name", data.SETS)
def test_every_set_has_its_yaml(name):
    path = CONFIGS / f"{name}.yaml"
    settings = composed(path)
    assert path.read_text().startswith("# ")
    assert settings.name == name
    assert OmegaConf.get_type(settings) is data.SETS[name].settings
    assert OmegaConf.missing_keys(settings) == ({"path"} & set(settings))  # of a set of the user's


def test_settings_that_do_not_fit_are_refused():
    assert "'ptb_char'" in refusal(TextData(name="ptb_chars", unit="char"))
    assert "data=digits" in refusal(ImageData(name="digits", val=300))
    assert "word" in refusal(TextData(name="ptb_word", unit="char"))
    assert "together below 1" in refusal(TextFile(path=__file__, unit="char", val=0.5, test=0.5))


def test_fingerprint_needs_neither_torch_nor_files():
    program = """
import sys, data
from data.settings import *
hashes = [data.fingerprint(s) for s in (TextData(name="ptb_char", unit="char"), ImageData(name="cifar10", val=1),
          PythonDocs(), NoisyDigits(), HubText(path="some/set", unit="char"))]
assert len(set(hashes)) == 5, hashes
assert not {"torch", "sklearn", "torchvision", "datasets", "hydra", "omegaconf", "wandb"} & set(sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "LAYERNORM_DATA"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=CONFIGS.parent.parent)


def test_settings_import_nothing_heavy():
    program = "import sys, data.settings; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=CONFIGS.parent.parent)
