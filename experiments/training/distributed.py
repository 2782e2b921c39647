"""One run over several processes: torchrun --nproc_per_node=2 -m experiments.train ...

All ranks hold the same weights and make the same steps, each on its shard of every batch; each evaluates the whole
split. Batch statistics (models/ranks.py), loss and gradient are those of the whole batch. Rank 0 holds the run's lock,
broadcasts its checkpoint and writes the run's folder; the others write nothing. When a rank fails or is killed,
torchrun ends the others. Gloo on a CPU, NCCL on CUDA, where this has not been run yet.
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
from experiments.training.protocols import Batch, Recorder, Task
from experiments.training.tasks import DataTask
from models.ranks import is_distributed


def start_ranks(device: str, training: bool = True) -> bool:
    """Start the process group; return rank 0's answer to whether there is anything to train, on all ranks."""
    if num_ranks() == 1:
        return training
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    answer = [training]
    dist.broadcast_object_list(answer)
    return answer[0]


def end_ranks() -> None:
    """End the process group after the last step: rank 0 does the rest alone."""
    if is_distributed():
        dist.destroy_process_group()


def shard(task: DataTask, recorder: Recorder) -> tuple[Task, Recorder]:
    """Return the task and the recorder for the loop of this rank; without ranks the given ones."""
    if not is_distributed():
        return task, recorder
    return ShardedTask(task), RankZeroRecorder(recorder) if rank() == 0 else SilentRecorder()


class ShardedTask:
    """A task whose batches are this rank's shards of the whole ones. Sizes stay those of the whole batch."""

    def __init__(self, task: DataTask):
        self.task = task

    @property
    def batch_size(self) -> int:
        return self.task.batch_size

    @property
    def steps_per_epoch(self) -> int:
        return self.task.steps_per_epoch

    def batch(self, step: int) -> Batch:
        """Return the shard, and make every random draw of its step, as in dropout, a function of (seed, step, rank).

        So a resumed run needs no rank's generator. The masks are not those of one process with the whole batch.
        """
        seed = np.random.SeedSequence((self.task.seed, step, rank())).generate_state(1, np.uint64)
        torch.manual_seed(int(seed[0]))
        inputs, targets = self.task.batch(step)
        return inputs.chunk(num_ranks())[rank()], targets.chunk(num_ranks())[rank()]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.task.loss(model, batch)

    def metrics(self, loss: float) -> dict[str, float]:
        return self.task.metrics(loss)

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        return self.task.evaluate(model, split)


class RankZeroRecorder:
    """The recorder of rank 0, which also sends its checkpoint to the other ranks."""

    def __init__(self, recorder: Recorder):
        self.recorder = recorder

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
        state = self.recorder.restore(model, optimizer)
        buffer = io.BytesIO()
        torch.save((model.state_dict(), optimizer.state_dict(), state), buffer)
        dist.broadcast_object_list([buffer.getvalue()])
        return state

    def log(self, row: dict) -> None:
        self.recorder.log(row)

    def progress(self, step: int, steps: int, seconds: float, loss: float, val: dict) -> None:
        self.recorder.progress(step, steps, seconds, loss, val)

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict) -> None:
        self.recorder.save(model, optimizer, state)


class SilentRecorder:
    """The recorder of the other ranks: starts from rank 0's checkpoint and writes nothing."""

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
        received: list[Any] = [None]
        device = next(model.parameters()).device
        dist.broadcast_object_list(received)
        weights, moments, state = torch.load(io.BytesIO(received[0]), map_location=device, weights_only=True)
        model.load_state_dict(weights)
        optimizer.load_state_dict(moments)
        return state

    def log(self, row: dict) -> None:
        pass

    def progress(self, step: int, steps: int, seconds: float, loss: float, val: dict) -> None:
        pass

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict) -> None:
        pass


def asked_to_stop() -> bool:
    """Return whether any rank was asked to stop; all ranks then are, so that they stop after the same step."""
    if not is_distributed():
        return stop_request.number is not None
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    number = torch.tensor(stop_request.number or 0, device=device)
    dist.all_reduce(number, dist.ReduceOp.MAX)
    if asked := int(number.item()):
        stop_request.number = asked
    return asked != 0  # a signal that came meanwhile is seen at the next step, by all ranks


def average(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Return the loss averaged over the ranks, whose shards are of one size; average the gradients in place.

    One sum over one vector whose layout never changes. DistributedDataParallel lays its buckets out anew after the
    first step, and where a value lies decides the order in which three or more ranks are added up: a resumed run would
    differ from an undisturbed one in the last bit.
    """
    if not is_distributed():
        return loss
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = torch.cat([loss.view(1), *(gradient.flatten() for gradient in gradients)])
    dist.all_reduce(total)
    loss, *means = total.div_(num_ranks()).split([1, *(gradient.numel() for gradient in gradients)])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
    return loss[0]
