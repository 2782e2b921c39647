"""One training step: forward, loss, backward, clipping and update, operation by operation or as one CUDA graph.

Both classes keep one contract. A call makes a step and returns (loss, gradient norm before clipping) of every step
since the last call that returned any, oldest first. A step whose loss or gradient is not finite leaves weights and
optimiser as they were; the caller sees it in what is returned.
"""

import functools
import math
import sys
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from experiments.config.errors import first_line
from experiments.config.schema import Trainer
from experiments.training import distributed
from experiments.training.probes import gradient_norms
from experiments.training.protocols import Batch, Task

WARM_UP = 3  # steps before a capture: libraries start, kernels are compiled, optimiser and BN statistics take shape
MOST_UNREAD = 256  # steps that a captured step makes at most before the host reads the results
Results = list[tuple[float, float]]  # (loss, gradient norm) of steps, oldest first


def make_step(
    model: nn.Module, task: Task, optimizer: torch.optim.Optimizer, clip: float | None, settings: Trainer
) -> "EagerStep":
    """Return the step for the model's device. Comes after a restore: it puts its own learning rate into the optimiser.

    clip: largest norm of the whole gradient, None for no clipping.
    """
    on_cuda = next(model.parameters()).device.type == "cuda"
    # A capture would have to hold the sums over the ranks.
    if settings.capture and on_cuda and not distributed.is_distributed():
        return CapturedStep(model, task, optimizer, clip)
    return EagerStep(model, task, optimizer, clip)


class EagerStep:
    """The step operation by operation; every call waits for its step and returns its result."""

    def __init__(self, model: nn.Module, task: Task, optimizer: torch.optim.Optimizer, clip: float | None):
        self.model = model
        self.task = task
        self.optimizer = optimizer
        self.clip = clip
        self.parameters = list(model.parameters())

    def __call__(self, batch: Batch, lr: float, wait: bool = True, row: dict | None = None) -> Results:
        """Make a step at the learning rate `lr`.

        wait: False lets the results come with a later call. row: takes the gradient norm of each parameter.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss, norm = self.backward(batch, row)
        result = loss.item(), norm.item()
        if all(map(math.isfinite, result)):
            if self.clip is not None and result[1] > self.clip:
                nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
            self.optimizer.step()
        return [result]

    def backward(self, batch: Batch, row: dict | None) -> tuple[Tensor, Tensor]:
        """Return loss and gradient norm; leave the gradients in the parameters."""
        for parameter in self.parameters:
            parameter.grad = None
        loss = self.task.loss(self.model, batch)
        loss.backward()
        loss = distributed.average(loss.detach(), self.parameters)
        if row is not None:
            row |= gradient_norms(self.model)
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        return loss, norm


class CapturedStep(EagerStep):
    """The step as one CUDA graph, so that a small network is not bound by the launches of its operations.

    The host waits for the device only where `wait` asks for the results, which lie in a buffer on the device until
    then. The device itself checks that a step is finite: it skips the update of one that is not, and of all steps after
    it until the host reads the results. The first WARM_UP steps, those with a `row`, and all steps where the capture
    fails or the device is no GPU, run the same operations one by one.

    Learning rate and batch are copied into tensors whose addresses stay. Dropout goes on as if uncaptured: a replay
    moves the default generator as far as the operations would have, so a checkpoint of its state resumes correctly.

    The capture itself has not been run on a GPU yet; everything else here is tested on a CPU.
    """

    def __init__(self, model: nn.Module, task: Task, optimizer: torch.optim.Optimizer, clip: float | None):
        super().__init__(model, task, optimizer, clip)
        self.device = self.parameters[0].device
        self.batch: Any = None  # a copy whose tensors keep their addresses
        self.lr = torch.zeros((), device=self.device)
        self.lr_value = 0.0  # of self.lr, known without asking the device
        self.not_finite = torch.zeros((), device=self.device)  # 1 from the first step on that is not finite
        self.results = torch.zeros(MOST_UNREAD, 2, device=self.device)
        self.index = torch.zeros(1, dtype=torch.long, device=self.device)  # of the next result
        self.unread = 0
        on_gpu = self.device.type == "cuda"
        self.stream = _side_stream(self.device) if on_gpu else None
        self.graph = None
        self.until_capture = WARM_UP if on_gpu else math.inf
        for group in optimizer.param_groups:
            group |= {"lr": self.lr, "fused": True}
            if "capturable" in group:  # torch asks Adam for it, though the fused form can always be captured
                group["capturable"] = True
        # As torch.amp.GradScaler does: a fused optimiser skips the update where it is 1.
        optimizer.found_inf = self.not_finite  # type: ignore[attr-defined]

    def __call__(self, batch, lr, wait=True, row=None):
        if self.batch is None:
            self.batch = tuple(tensor.clone() for tensor in batch)
        for tensor, source in zip(self.batch, batch, strict=True):
            tensor.copy_(source)
        if lr != self.lr_value:
            self.lr.fill_(lr)
            self.lr_value = lr
        if self.until_capture == 0 and self.graph is None:
            self._capture()
        if self.graph is None or row is not None:
            with self._on_side_stream():
                self._advance(row)
            self.until_capture -= 1
        else:
            self.graph.replay()
        self.unread += 1
        return self._read() if wait or self.unread == MOST_UNREAD else []

    def _advance(self, row: dict | None = None) -> None:
        """Queue the operations of a step without reading any result: what a graph can record."""
        loss, norm = self.backward(self.batch, row)
        if self.clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
        result = torch.stack((loss, norm))
        self.not_finite.masked_fill_(~result.isfinite().all(), 1.0)
        self.optimizer.step()
        self.results.index_copy_(0, self.index, result[None])
        self.index += 1

    def _read(self) -> Results:
        results = [tuple(result) for result in self.results[: self.unread].tolist()]
        self.index.zero_()
        self.unread = 0
        return results

    def _capture(self) -> None:
        try:
            self.graph = self._record()
        except RuntimeError as error:  # an operation that waits for the device, or one that CUDA graphs do not know
            self.until_capture = math.inf
            reason = first_line(error.__context__ or error)  # the end of a broken capture raises again
            print(f"the training step is not captured as a CUDA graph ({reason}); it runs uncaptured", file=sys.stderr)

    def _record(self):
        generator = torch.cuda.default_generators[self.device.index]
        graph = torch.cuda.CUDAGraph()
        state = generator.clone_state()
        try:
            with self._on_side_stream(), torch.cuda.graph(graph, stream=self.stream):
                self._advance()
        except RuntimeError:
            generator.graphsafe_set_state(state)  # torch 2.11: the old one would stay in capture mode
            raise
        return graph

    @contextmanager
    def _on_side_stream(self):
        """Run the block on a side stream, in order with the current one: gradients must not be tied to the default."""
        if self.stream is None:
            yield
            return
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)


@functools.cache
def _side_stream(device: torch.device):
    """Return the one side stream of the process.

    Streams come from a small ring, and a graph that is destroyed takes the matrix products' workspace of its stream
    with it, whoever else uses that (pytorch issue 193402).
    """
    return torch.cuda.Stream(device)
