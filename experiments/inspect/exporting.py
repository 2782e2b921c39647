"""A trained model as files that need no data and nothing of this repository but its package of layers.

model.safetensors   weights, named as in the state dict; a weight-normalised matrix as its g and v
config.json         what rebuilds the network, and what turns inputs into the model's
README.md           the model card

layer_normalization.load reads the first two.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save

from experiments.config.schema import norm_options, settings
from experiments.inspect.model_card import model_card, vocabulary_is_public
from experiments.runs.outputs import written_as_one
from experiments.training.load import Trained


def export_model(trained: Trained, output: Path) -> None:
    """Write the three files into the folder `output`."""
    files = {
        "model.safetensors": weights(trained),
        "config.json": (json.dumps(model_config(trained), indent=1) + "\n").encode(),
        "README.md": model_card(trained, output.absolute().name).encode(),
    }
    with written_as_one(output) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)


def weights(trained: Trained) -> bytes:
    """Return the state dict in the safetensors format.

    Each name has a copy of its tensor: safetensors refuses two names of one tensor, as a tied embedding has.
    """
    tensors = {name: tensor.clone().contiguous() for name, tensor in trained.model.state_dict().items()}
    return save(tensors, {"format": "pt"})  # of several entries the order, and so the bytes, would be chance


def model_config(trained: Trained) -> dict:
    """Return what builds the network, and what encodes its inputs: of text its symbols, of images mean and sd."""
    model = settings(trained.cfg.model)
    config = {
        "run_id": trained.folder.run_id,
        "settings": type(model).__name__,  # a class of models.settings
        "model": asdict(model),
        "norm": trained.cfg.norm.name,
        "norm_options": norm_options(trained.cfg),
        "input_shape": trained.input_shape,
        "num_classes": trained.num_classes,
    }
    if not trained.vocabulary:
        # Of each channel; the model's input is (image - mean) / sd, but where images are of zeros and ones. Of a pen
        # trajectory the sd of dx and dy, and what its text is written in.
        names = ("mean", "sd", "class_names", "vocabulary")
        return config | {name: trained.manifest[name] for name in names if name in trained.manifest}
    config["unit"] = trained.cfg.data.get("unit", "word")
    if vocabulary_is_public(trained):
        return config | {"vocabulary": trained.vocabulary}
    checksum = hashlib.sha256(json.dumps(trained.vocabulary).encode()).hexdigest()
    return config | {"vocabulary_sha256": checksum}
