"""Tiny networks of every model, with batches for them."""

import itertools

import torch
from torch import nn

from models.build import build
from models.create_norm import NormLayer
from models.language_model import LanguageModel
from models.norms import NORMS
from models.settings import CNN, MLP, ResNet20
from models.settings import Recurrent as RecurrentSettings

V, IMAGE, CLASSES = 7, (2, 8, 8), 3  # vocabulary, (C, H, W), classes


TINY = {
    "rnn": RecurrentSettings(name="rnn", hidden_size=8),
    "lstm": RecurrentSettings(name="lstm", hidden_size=8),
    "gru": RecurrentSettings(name="gru", hidden_size=8),
    "lstm_embedding": RecurrentSettings(name="lstm", hidden_size=8, input="embedding", embedding_size=5, num_layers=2),
    "gru_tied": RecurrentSettings(name="gru", hidden_size=8, input="embedding", embedding_size=8, tied=True),
    "cnn": CNN(depth=3, width=4),
    "resnet20": ResNet20(width=4),
    "mlp": MLP(hidden_sizes=[8, 6]),
    "mlp_norm_output": MLP(hidden_sizes=[8], norm_output=True),
}


def is_recurrent(settings) -> bool:
    return isinstance(settings, RecurrentSettings)


def tiny(model: str, norm: str = "none", seed: int = 0, **options) -> nn.Module:
    """The model in a small size. Two groups divide every width but the three logits, for which one does."""
    if norm == "gn":
        options = {"groups": 1 if model == "mlp_norm_output" else 2, **options}
    settings = TINY[model]
    torch.manual_seed(seed)
    shape, outputs = ((), V) if is_recurrent(settings) else (IMAGE, CLASSES)
    return build(settings, shape, outputs, NormLayer(norm, options))


LANGUAGE_NORMS = {"none": {}, "bn": {}, "ln": {}, "wn": {}, "gn": {"groups": 2}, "rms": {}}


def language_model(cell: str, norm: str, **options) -> LanguageModel:
    """Two layers of 8 units with random gains and shifts, and with running statistics; in evaluation mode."""
    torch.manual_seed(0)
    settings = RecurrentSettings(name=cell, hidden_size=8, num_layers=2, **options)
    model = LanguageModel(settings, (), V, NormLayer(norm, LANGUAGE_NORMS[norm]))
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    for _ in range(3):
        model(torch.randint(V, (5, 6)))
    return model.eval()


def batch(model: str, cases: int = 6, steps: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    if is_recurrent(TINY[model]):
        tokens = torch.randint(V, (cases, steps + 1), generator=generator)
        return tokens[:, :-1], tokens[:, 1:]
    return torch.randn(cases, *IMAGE, generator=generator), torch.randint(CLASSES, (cases,), generator=generator)


def loss_of(network: nn.Module, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    out = network(x)
    logits = out[0] if isinstance(out, tuple) else out
    return nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


COMBINATIONS = [
    (model, norm) for model, norm in itertools.product(TINY, NORMS) if norm != "in" or not is_recurrent(TINY[model])
]


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
