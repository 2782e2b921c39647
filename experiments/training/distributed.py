"""One run over several processes: torchrun --nproc_per_node=2 -m experiments.train ...

The ranks hold the same weights, make the same steps, each on its share of every batch, and evaluate alike; statistics
of a batch (models/ranks.py), loss and gradient are those of the whole batch. The first rank (0) holds the run's lock,
restores its checkpoint for all of them and writes its folder; the others write nothing. A rank that fails or is killed
ends the others: torchrun sees to it. Gloo on a CPU, NCCL on CUDA, where this has not been run yet.
"""

import io
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from experiments.runs.signals import stop_request
from experiments.runs.torchrun import num_ranks, rank
from models.ranks import is_distributed


def join(device: str, going: bool = True) -> bool:
    """Meet the other ranks; returns what the first one says of `going`: False when there is nothing to train."""
    if num_ranks() == 1:
        return going
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    said = [going]
    dist.broadcast_object_list(said)
    return said[0]


def leave() -> None:
    """After the last step: what follows is not shared."""
    if is_distributed():
        dist.destroy_process_group()


def spread(task, recorder) -> tuple:
    """The task and the recorder for the loop of this rank; with one process as they are."""
    if not is_distributed():
        return task, recorder
    return Share(task), Leader(recorder) if rank() == 0 else Follower()


class Share:
    """A task whose batches are this rank's share of the whole ones."""

    def __init__(self, task):
        self.task = task

    def __getattr__(self, name):
        return getattr(self.task, name)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """The share; every chance in its step, as dropout, is then a function of (seed, step, rank) alone.

        So a resumed run needs no rank's generator. The masks are not those of one process with the whole batch.
        """
        chance = np.random.SeedSequence((self.task.seed, step, rank())).generate_state(1, np.uint64)
        torch.manual_seed(int(chance[0]))
        return tuple(part.chunk(num_ranks())[rank()] for part in self.task.batch(step))


class Leader:
    """The first rank's recorder, which also brings the others to where the run starts."""

    def __init__(self, recorder):
        self.recorder = recorder

    def __getattr__(self, name):
        return getattr(self.recorder, name)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
        state, buffer = self.recorder.restore(model, optimizer), io.BytesIO()
        torch.save((model.state_dict(), optimizer.state_dict(), state), buffer)
        dist.broadcast_object_list([buffer.getvalue()])
        return state


class Follower:
    """The other ranks' recorder: starts where the first rank says, and writes nothing."""

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
        sent: list[Any] = [None]
        device = next(model.parameters()).device
        dist.broadcast_object_list(sent)
        weights, moments, state = torch.load(io.BytesIO(sent[0]), map_location=device, weights_only=True)
        model.load_state_dict(weights)
        optimizer.load_state_dict(moments)
        return state

    def log(self, row: dict) -> None:
        pass

    def progress(self, *_) -> None:
        pass

    def save(self, *_) -> None:
        pass


def asked_to_stop() -> bool:
    """Has any rank been asked to stop? Then all of them are, so that they stop after the same step."""
    if not is_distributed():
        return stop_request.number is not None
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    number = torch.tensor(stop_request.number or 0, device=device)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    if asked := int(number.item()):
        stop_request.number = asked
    return asked != 0  # a signal that came meanwhile has its turn at the next step, with all ranks


def average(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """The loss and, in place, the gradients become their means over the ranks, whose shares are of one size.

    One sum over one vector whose layout never changes. DistributedDataParallel lays its buckets out anew after the
    first step, and where a value lies decides the order in which three or more ranks are added up: a resumed run would
    part from an undisturbed one in the last bit.
    """
    if not is_distributed():
        return loss
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    whole = torch.cat([loss.view(1), *(gradient.flatten() for gradient in gradients)])
    dist.all_reduce(whole)
    loss, *means = whole.div_(num_ranks()).split([1, *(gradient.numel() for gradient in gradients)])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
    return loss[0]
