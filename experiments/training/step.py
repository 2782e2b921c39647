"""One training step: forward, loss, backward, clipping and update, operation by operation or as one CUDA graph.

Both classes keep one contract. A call makes a step and returns (loss, gradient norm before clipping) of every step that
it has not told of yet, oldest first. A step with a loss or gradient that is not finite leaves weights and optimiser as
they were; the caller finds it in what is returned.
"""

import functools
import math
import sys
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from experiments.config.schema import Trainer
from experiments.training import distributed
from experiments.training.probes import gradient_norms

WARM_UP = 3  # steps before a capture: libraries start, kernels are compiled, optimiser and BN statistics take shape
MOST_UNREAD = 256  # steps that a captured step makes at most before the host looks at a result


def make_step(model: nn.Module, task, optimizer: torch.optim.Optimizer, clip: float | None, settings: Trainer):
    """The step for the model's device. Comes after a restore: it puts a learning rate of its own into the optimiser.

    task: see experiments.training.tasks. clip: largest norm of the whole gradient, None for no clipping.
    """
    alone = not distributed.is_distributed()  # a capture would have to hold the sums over the ranks
    if alone and settings.capture and next(model.parameters()).device.type == "cuda":
        return CapturedStep(model, task, optimizer, clip)
    return EagerStep(model, task, optimizer, clip)


class EagerStep:
    """Operation by operation; every call waits for its step and tells of it."""

    def __init__(self, model: nn.Module, task, optimizer: torch.optim.Optimizer, clip: float | None):
        self.model, self.task, self.optimizer, self.clip = model, task, optimizer, clip
        self.parameters = list(model.parameters())

    def __call__(
        self, batch: tuple[Tensor, ...], lr: float, wait: bool = True, row: dict | None = None
    ) -> list[tuple[float, float]]:
        """wait: False lets the results come with a later call. row: takes the gradient norm of each parameter."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        loss, norm = self.backward(batch, row)
        result = loss.item(), norm.item()
        if all(map(math.isfinite, result)):
            if self.clip is not None and result[1] > self.clip:
                nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
            self.optimizer.step()
        return [result]

    def backward(self, batch: tuple[Tensor, ...], row: dict | None) -> tuple[Tensor, Tensor]:
        """Loss and gradient norm; the gradients are left in the parameters."""
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
    then. That a step is not finite is found out there as well: its update is skipped on the device, and so are those of
    the steps that follow before the host looks. The first WARM_UP steps, those with a `row`, and all where the capture
    fails or the device is no GPU, run the same operations one by one.

    Learning rate and batch are copied into tensors that keep their place. Dropout goes on as if uncaptured: a replay
    moves the default generator as far as the operations would have, so a checkpoint of its state resumes right.

    The capture itself has not been run on a GPU yet; everything else here is tested on a CPU.
    """

    def __init__(self, model: nn.Module, task, optimizer: torch.optim.Optimizer, clip: float | None):
        super().__init__(model, task, optimizer, clip)
        self.device = self.parameters[0].device
        self.batch: tuple[Tensor, ...] = ()
        self.lr, self.lr_value = torch.zeros((), device=self.device), 0.0
        self.bad = torch.zeros((), device=self.device)  # 1 from the first step on that is not finite
        self.results = torch.zeros(MOST_UNREAD, 2, device=self.device)
        self.place, self.unread = torch.zeros(1, dtype=torch.long, device=self.device), 0  # of the next result
        on_gpu = self.device.type == "cuda"
        self.stream = _side_stream(self.device) if on_gpu else None
        self.graph, self.until_capture = None, WARM_UP if on_gpu else math.inf
        for group in optimizer.param_groups:
            group |= {"lr": self.lr, "fused": True}
            if "capturable" in group:  # torch asks Adam for it, though the fused form can always be captured
                group["capturable"] = True
        # As torch.amp.GradScaler does: a fused optimiser skips the update where it is 1.
        optimizer.found_inf = self.bad  # type: ignore[attr-defined]

    def __call__(self, batch, lr, wait=True, row=None):
        if not self.batch:
            self.batch = tuple(tensor.clone() for tensor in batch)
        for mine, given in zip(self.batch, batch, strict=True):
            mine.copy_(given)
        if lr != self.lr_value:
            self.lr.fill_(lr)
            self.lr_value = lr
        if self.until_capture == 0 and self.graph is None:
            self._capture()
        if self.graph is None or row is not None:
            with self._apart():
                self._advance(row)
            self.until_capture -= 1
        else:
            self.graph.replay()
        self.unread += 1
        return self._read() if wait or self.unread == MOST_UNREAD else []

    def _advance(self, row: dict | None = None) -> None:
        """The step as operations that are queued without a look at any result: what a graph can record."""
        loss, norm = self.backward(self.batch, row)
        if self.clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
        result = torch.stack((loss, norm))
        self.bad.masked_fill_(~result.isfinite().all(), 1.0)
        self.optimizer.step()
        self.results.index_copy_(0, self.place, result[None])
        self.place += 1

    def _read(self) -> list[tuple[float, float]]:
        results = [tuple(result) for result in self.results[: self.unread].tolist()]
        self.place.zero_()
        self.unread = 0
        return results

    def _capture(self) -> None:
        try:
            self.graph = self._record()
        except RuntimeError as error:  # an operation that waits for the device, or one that CUDA graphs do not know
            self.until_capture = math.inf
            reason = str(error.__context__ or error).partition("\n")[0]  # the end of a broken capture raises again
            print(f"the training step is not captured as a CUDA graph ({reason}); it runs uncaptured", file=sys.stderr)

    def _record(self):
        generator, graph = torch.cuda.default_generators[self.device.index], torch.cuda.CUDAGraph()
        state = generator.clone_state()
        try:
            with self._apart(), torch.cuda.graph(graph, stream=self.stream):
                self._advance()
        except RuntimeError:
            generator.graphsafe_set_state(state)  # torch 2.11: the old one would stay in capture mode
            raise
        return graph

    @contextmanager
    def _apart(self):
        """On a stream of its own, in order with the current one. Gradients must not be tied to the default stream."""
        if self.stream is None:
            yield
            return
        here = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            yield
        here.wait_stream(self.stream)


@functools.cache
def _side_stream(device: torch.device):
    """One a process: streams come from a small ring, and a graph that is destroyed takes the matrix products' workspace
    of its stream with it, whoever else uses that (pytorch issue 193402)."""
    return torch.cuda.Stream(device)
