"""Statistics of one training step: summed inputs around each normaliser, gradient norm of each parameter."""

from contextlib import contextmanager

import torch
from torch import nn

from models.norms import Normaliser


@contextmanager
def watch_summed_inputs(model: nn.Module, row: dict, active: bool):
    """Add mean and std of the inputs and outputs of every normaliser to `row`, over the forward pass inside the block.

    Keys: in/<module>/mean, in/<module>/std, out/<module>/mean, out/<module>/std, where <module> is the name of the
    normaliser; norm=none has normalisers that change nothing. In a recurrence the values are pooled over the steps.
    """
    if not active:
        yield
        return
    values_of: dict[str, list[torch.Tensor]] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, Normaliser):

            def hook(_module, inputs, output, name=name):
                values_of.setdefault(f"in/{name}", []).append(inputs[0].detach())
                values_of.setdefault(f"out/{name}", []).append(output.detach())

            handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    for key, values in values_of.items():
        pooled = torch.cat([value.flatten() for value in values])
        row[f"{key}/mean"], row[f"{key}/std"] = pooled.mean().item(), pooled.std().item()


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """Return the Euclidean norm of each parameter's gradient, before clipping. Keys: grad/<parameter>."""
    return {
        f"grad/{name}": parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
