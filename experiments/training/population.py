"""Batch normalisation's statistics for evaluation, estimated anew with the weights as they are.

Running averages lag behind weights that move, the more so the higher the learning rate, and at a small batch each of
them is of few cases: BN would be judged by its averages, not by what it learnt. Cooijmans et al. 2016, section 3,
estimate the statistics over the training set after training.
"""

import torch
from torch import nn

from experiments.training.protocols import Task
from models.norms import BatchNorm


@torch.no_grad()
def estimate_statistics(model: nn.Module, task: Task, step: int, batches: int) -> None:
    """Replace every running mean and variance by its mean over the last `batches` training batches before `step`.

    All other layers run in evaluation mode, so no random number is drawn; training goes on as if this had not been
    called, since it reads batch statistics alone. Leaves the model in evaluation mode.
    """
    layers = [module for module in model.modules() if isinstance(module, BatchNorm)]
    if not layers or not batches:
        return
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.train()
    for count, past in enumerate(range(max(0, step - batches), step), start=1):
        for layer in layers:
            layer.momentum = 1 / count  # the running average becomes the mean of all batches so far
        task.loss(model, task.batch(past))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.eval()
