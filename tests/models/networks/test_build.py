"""The table of networks, and what it refuses."""

import pytest
import torch

from models.attentive_reader import AttentiveReader
from models.build import build
from models.cnn import CIFARResNet20, PlainCNN
from models.create_norm import NormLayer
from models.draw import DRAW
from models.errors import ModelError
from models.handwriting import HandwritingNetwork
from models.language_model import LanguageModel
from models.mlp import FullyConnected
from models.order_embedding import OrderEmbedding
from models.recurrent import PLACEMENTS
from models.sequence_classifier import ORDERS, SequenceClassifier
from models.settings import CNN, MLP, SCHEMAS, ImageRecurrent
from models.settings import Recurrent as RecurrentSettings
from models.skip_thoughts import SkipThoughts
from tests.helpers.networks import IMAGE, V, is_recurrent

REFUSED = {
    "unknown_model": (CNN(name="vgg"), "none", {}, ["model=vgg", "allowed", "nearest"]),
    "unknown_norm": (CNN(), "lm", {}, ["norm=lm", "nearest"]),
    "unknown_option": (MLP(), "ln", {"groups": 2}, ["norm=ln", "groups"]),
    "unknown_input": (RecurrentSettings(input="bytes"), "none", {}, ["model.input=bytes", "onehot", "embedding"]),
    "tied_one_hot": (RecurrentSettings(tied=True), "none", {}, ["model.tied=true", "model.input=embedding"]),
    "tied_sizes": (
        RecurrentSettings(tied=True, input="embedding", embedding_size=5, hidden_size=8),
        "none",
        {},
        ["model.tied=true", "model.embedding_size", "8"],
    ),
    "order": (ImageRecurrent(order="columns"), "none", {}, ["model.order=columns", *ORDERS, "nearest"]),
    "state_noise": (ImageRecurrent(state_noise=-0.1), "bn", {}, ["model.state_noise=-0.1", "0 or more"]),
    "instance_norm_of_images": (ImageRecurrent(), "in", {}, ["norm=in", "recurrent"]),
    "depth_4": (CNN(depth=4), "none", {}, ["model.depth=4", "three"]),
    "depth_0": (CNN(depth=0), "none", {}, ["model.depth=0", "three"]),
    "groups_cnn": (CNN(width=4), "gn", {"groups": 3}, ["norm.groups=3", "4 channels"]),
    "groups_mlp": (MLP(hidden_sizes=[10]), "gn", {}, ["norm.groups=8", "10 channels"]),
    "instance_norm": (RecurrentSettings(), "in", {}, ["norm=in", "recurrent"]),
    "cell_only": (RecurrentSettings(name="gru", placement="cell_only"), "ln", {}, ["model.placement=cell_only"]),
    "placement": (RecurrentSettings(placement="inside"), "ln", {}, ["model.placement=inside", *PLACEMENTS]),
    "data_init": (RecurrentSettings(), "wn", {"data_init": True}, ["norm.data_init"]),
}


@pytest.mark.parametrize("settings, norm, options, parts", REFUSED.values(), ids=REFUSED)
def test_impossible_settings_are_refused_in_one_line(settings, norm, options, parts):
    with pytest.raises(ModelError) as caught:
        shape, classes = ((), V) if is_recurrent(settings) else (IMAGE, 3)
        build(settings, shape, classes, NormLayer(norm, options))
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message


SHAPES = {  # by the kind of data
    **{"text": (), "images": IMAGE, "binary": (1, 8, 8), "strokes": (3,), "pairs": (2, 7)},
    **{"sentences": (3, 7), "cloze": (30, 4, 9)},
}


def test_every_schema_can_be_built_with_its_defaults():
    classes = {
        "recurrent": LanguageModel,
        "image_recurrent": SequenceClassifier,
        "cnn": PlainCNN,
        "resnet20": CIFARResNet20,
        "mlp": FullyConnected,
        "draw": DRAW,
        "handwriting": HandwritingNetwork,
        "order_embedding": OrderEmbedding,
        "attentive_reader": AttentiveReader,
        "skip_thoughts": SkipThoughts,
    }
    assert SCHEMAS.keys() == classes.keys()
    for name, schema in SCHEMAS.items():
        settings = schema()
        shape = SHAPES[settings.kind]
        with torch.device("meta"):
            assert type(build(settings, shape, 10, NormLayer("ln"))) is classes[name]


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_summed_inputs_of_the_second_layer_start_at_the_same_scale(cell):
    torch.manual_seed(0)
    below, above = (build(RecurrentSettings(name=cell, num_layers=n), (), 50, NormLayer()).recurrent for n in (1, 2))
    x = torch.nn.functional.one_hot(torch.randint(50, (32, 64)), 50).float()
    assert (below(x)[0] @ above.weight_ih_l1.T).std().item() == pytest.approx(1.0, abs=0.15)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("settings", [RecurrentSettings(dropout=0.5), ImageRecurrent(dropout=0.5)], ids=type)
def test_dropout_of_one_layer_is_not_warned_of(settings):
    """The networks drop inputs and outputs as well; the layer would warn that it has nothing to drop."""
    assert settings.num_layers == 1
    build(settings, IMAGE if isinstance(settings, ImageRecurrent) else (), V, NormLayer("ln"))
