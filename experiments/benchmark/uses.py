"""What programs do with an LSTM beside one layer over a long sequence: small, in stacks, step by step, in bfloat16."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmark.cases import OURS
from experiments.benchmark.peers import BASE, BOTH, FORWARD, Size
from experiments.benchmark.timing import Timing, work
from models.recurrent import LSTM

PLAIN, LOOP = "ours none, fused", "ours ln, reference"
OURS_16, BASE_16 = "ours ln, bfloat16", "torch.nn, bfloat16"


@dataclass(frozen=True)
class Use:
    """A way to use a layer. `by_step`: a call for each step, with the state of the call before."""

    size: Size
    mode: str = BOTH
    by_step: bool = False
    bfloat16: bool = False  # under autocast, beside float32
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def flop(self) -> float:
        """A measure of the work, as of one layer in one direction."""
        return work(self.size, "lstm", self.mode)


MIDDLE = Size(T=100, B=32, I=128, H=256)
USES = {
    "small, 32 cases": Use(Size(T=50, B=32, I=50, H=64)),
    "small, 4 cases": Use(Size(T=64, B=4, I=50, H=128)),
    "three layers": Use(MIDDLE, settings={"num_layers": 3}),
    "two layers, both directions": Use(MIDDLE, settings={"num_layers": 2, "bidirectional": True}),
    "one step of one case, no gradients": Use(Size(T=1, B=1, I=128, H=256), FORWARD, by_step=True),
    "one step of 8 cases, no gradients": Use(Size(T=1, B=8, I=128, H=256), FORWARD, by_step=True),
    # as networks do whose inputs depend on the outputs before: DRAW, a window over a text
    "step by step, with gradients": Use(MIDDLE, by_step=True),
    "bfloat16, 128 units": Use(Size(T=64, B=16, I=128, H=128), bfloat16=True),
    "bfloat16, 256 units": Use(MIDDLE, bfloat16=True),
    "bfloat16, 512 units": Use(Size(T=100, B=32, I=512, H=512), bfloat16=True),
    "bfloat16, 650 units": Use(Size(T=35, B=20, I=650, H=650), bfloat16=True),
}


def use(timing: Timing, name: str, seconds: float) -> dict:
    """Time our layers and torch.nn's in one use."""
    calls = passes(USES[name])
    return {"kind": "use", "use": name, "mode": USES[name].mode, **timing.rounds(calls, (LOOP,), seconds)}


def passes(use: Use) -> dict[str, Callable[[], Tensor]]:
    """Return the candidates: a call is a pass over the input, forward, and backward if the mode says so."""
    size = use.size
    sizes, make = (size.I, size.H), torch.Generator().manual_seed(0)
    x = torch.randn(size.T, size.B, size.I, generator=make)
    calls = {
        BASE: one_pass(use, nn.LSTM(*sizes, **use.settings), x),
        PLAIN: one_pass(use, LSTM(*sizes, norm="none", **use.settings), x),
        OURS: one_pass(use, LSTM(*sizes, norm="ln", **use.settings), x),
    }
    if use.bfloat16:
        theirs = one_pass(use, nn.LSTM(*sizes), x, autocast=True)
        calls |= {BASE_16: theirs} if runs(theirs) else {}
        calls[OURS_16] = one_pass(use, LSTM(*sizes, norm="ln"), x, autocast=True)
    elif use.by_step:
        calls[LOOP] = one_pass(use, LSTM(*sizes, norm="ln", backend="reference"), x)
    return calls


def runs(call: Callable[[], Tensor]) -> bool:
    """Return whether torch.nn's LSTM runs under autocast: for CPUs without bfloat16, oneDNN has none and raises."""
    try:
        call()
    except RuntimeError as error:
        if "could not create a primitive descriptor" not in str(error):
            raise
        return False
    return True


def one_pass(use: Use, layer: nn.Module, x: Tensor, autocast: bool = False) -> Callable[[], Tensor]:
    layer.train(use.mode == BOTH)
    x = x.clone().requires_grad_(use.mode == BOTH)
    state: list[Any] = [None]

    def forward() -> Tensor:
        if not use.by_step:
            return layer(x)[0]
        carried, outputs = state[0] if use.mode == FORWARD else None, []
        for x_t in x.split(1):
            y, carried = layer(x_t, carried)
            outputs.append(y)
        state[0] = carried if use.mode == FORWARD else None
        return torch.cat(outputs)

    def call() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.set_grad_enabled(use.mode == BOTH):
            y = forward()
        if use.mode == BOTH:
            layer.zero_grad()
            x.grad = None
            y.float().sum().backward()
        return y

    return call
