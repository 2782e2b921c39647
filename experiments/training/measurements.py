"""Measurements on a network beyond its loss: the invariances of Table 1, the gap between training and test, transfer.

All leave the network as it was: weights, running statistics, mode and random generators.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from experiments.training.protocols import Batch
from experiments.training.tasks import DataTask, SentencePrediction
from models.mlp import FullyConnected
from models.norms import Normaliser

SCALE = 2.5  # no power of two, by which floating-point numbers are scaled without rounding
SHIFT_SEED = 0  # of the shifts gamma and c
ORDER_SEED = 0  # of the order in which validation examples are put into batches


# --- Table 1 ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def invariance(model: FullyConnected, images: Tensor) -> dict[str, float]:
    """Return how far each transformation of Table 1 moves the first layer's normalised summed inputs.

    The layer is the first of the fully connected classifier, with its weights, gain and shift as they are, in float64,
    with eps = 0, for which the invariances are exact, and batch statistics over `images` (N, ...) for bn. With
    y = g/sigma (W x - mu) + b before the non-linearity, the transformations are (Ba et al. 2016, section 5.1)

        change/weight_matrix_rescaling      W' = d W
        change/weight_matrix_recentring     W' = W + 1 gamma^T    every unit's weights shifted alike
        change/weight_vector_rescaling      w_1' = d w_1          one unit
        change/dataset_rescaling            x' = d x              all cases
        change/dataset_recentring           x' = x + c            all cases
        change/single_case_rescaling        x_1' = d x_1          one case; its y alone is compared

    and each value is max |y' - y| / max |y|. d = 2.5; gamma and c are Gaussian with the root mean square of W and x. Of
    weight normalisation, w = g v / ||v||, the matrix W is that of the vectors v, which is what is trained.

    Raises ValueError for another network, and where y is not defined or all zero, as for "in" on single values.
    """
    if not isinstance(model, FullyConnected):
        raise ValueError(f"the invariances are those of model=mlp, not of a {type(model).__name__}")
    layer = _exact(model.hidden[0])
    x = images.flatten(1).double()
    before = layer(x)
    if not (before.isfinite().all() and before.any()):
        raise ValueError(
            "with eps=0 the normalised summed inputs are all zero or not finite: this norm has no such row"
        )

    W = _weights(layer).detach().clone()
    generator = torch.Generator().manual_seed(SHIFT_SEED)
    gamma, c = (_shift(like, generator) for like in (W, x))
    one_unit, one_case = (torch.ones(len(t), 1, dtype=t.dtype, device=t.device) for t in (W, x))
    one_unit[0] = one_case[0] = SCALE
    changes = {}
    for name, weights, inputs, cases in (
        ("weight_matrix_rescaling", SCALE * W, x, slice(None)),
        ("weight_matrix_recentring", W + gamma, x, slice(None)),
        ("weight_vector_rescaling", one_unit * W, x, slice(None)),
        ("dataset_rescaling", W, SCALE * x, slice(None)),
        ("dataset_recentring", W, x + c, slice(None)),
        ("single_case_rescaling", W, one_case * x, slice(1)),
    ):
        _weights(layer).copy_(weights)
        y, y_new = before[cases], layer(inputs)[cases]
        changes[f"change/{name}"] = ((y_new - y).abs().max() / y.abs().max()).item()
    return changes


def _exact(layer: Any) -> Any:
    """Return a float64 copy of a linear layer and its normaliser, without eps, with the statistics of training."""
    exact = copy.deepcopy(layer).double().train()
    for norm in exact.modules():
        if hasattr(norm, "eps"):
            norm.eps = 0.0
    return exact


def _weights(layer: Any) -> Tensor:
    """Return W of a linear layer with its normaliser; of weight normalisation the vectors v, the second of g and v."""
    linear = layer[0]
    return linear.parametrizations.weight.original1 if parametrize.is_parametrized(linear, "weight") else linear.weight


def _shift(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return a row to add to every row of `like`, of the same root mean square."""
    row = torch.randn(like.shape[1], generator=generator, dtype=like.dtype)
    return row.to(like.device) * like.square().mean().sqrt()


# --- Training against test --------------------------------------------------------------------------------------------


@torch.no_grad()
def train_test_gap(model: nn.Module, task: DataTask) -> dict[str, float]:
    """Return how far evaluation differs from training, on the same validation batches.

        gap/output    max |logits in evaluation - logits in training| / max |logits in evaluation|
        gap/loss      mean loss in evaluation - mean loss in training, nats

    "In training" puts the normalisers into training mode and nothing else, so that bn takes the statistics of the batch
    while dropout and noise stay off. The batches are as large as in training and take the examples in one random order,
    as in training; the last incomplete one is left out. Raises ValueError when the split holds less than one batch.
    """
    evaluating, training = copy.deepcopy(model).eval(), copy.deepcopy(model).eval()
    for module in training.modules():
        if isinstance(module, Normaliser):
            module.train()
    gap = largest = total = 0.0
    batches = validation_batches(task)
    for x, targets in batches:
        in_evaluation = _logits(evaluating(x))
        in_training = _logits(training(x))
        gap = max(gap, (in_evaluation - in_training).abs().max().item())
        largest = max(largest, in_evaluation.abs().max().item())
        total += (_loss(in_evaluation, targets) - _loss(in_training, targets)).item()
    return {"gap/output": gap / (largest or 1.0), "gap/loss": total / len(batches)}


def training_loss(model: nn.Module, task: DataTask) -> dict[str, float]:
    """Return the loss over the training split in evaluation mode, train_eval/loss.

    The loss of a training step is of one batch and, with batch normalisation, of that batch's statistics: at batch 4 it
    says little about how well the network fits.
    """
    return {"train_eval/loss": task.evaluate(model, "train")["loss"]}


def validation_batches(task: DataTask) -> list[Batch]:
    """Return inputs and targets in whole batches of the training batch size. Raises ValueError if there is none."""
    x, targets = task.validation()
    if len(x) < task.batch_size:
        raise ValueError(f"{len(x)} validation examples make no batch of {task.batch_size}; choose a smaller batch")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(ORDER_SEED))
    chosen = order.to(x.device).split(task.batch_size)[: len(x) // task.batch_size]
    return [(x[chunk], targets[chunk]) for chunk in chosen]


def _logits(output: Tensor | tuple) -> Tensor:
    return output[0] if isinstance(output, tuple) else output  # a language model returns its final state as well


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


# --- Transfer ---------------------------------------------------------------------------------------------------------


def transfer(model: nn.Module, task: DataTask) -> dict[str, float]:
    """Return what linear models read off the sentences' states, transfer/... (experiments/training/transfer.py)."""
    from experiments.training.transfer import measure  # here, since it imports scikit-learn

    assert isinstance(task, SentencePrediction)  # as check.py has seen to
    return measure(model, task)


# What trainer.measure can name, each from the trained model and its task.
MEASUREMENTS: dict[str, Callable[[Any, Any], dict[str, float]]] = {
    "invariance": lambda model, task: invariance(model, task.images["val"][: task.batch_size]),
    "train_test_gap": train_test_gap,
    "training_loss": training_loss,
}
# The same, from the model at each quarter of the training.
AT_QUARTERS: dict[str, Callable[[Any, Any], dict[str, float]]] = {"transfer": transfer}
