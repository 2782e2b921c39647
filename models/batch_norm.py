"""Batch normalisation, with running statistics by time step."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from . import ranks
from .errors import ModelError
from .normaliser import Normaliser


class _Refusal:
    """Stands where torch.nn's class has a flag, for what would convert a batch normalisation by its fields."""

    def __bool__(self) -> bool:
        raise ModelError(
            "BatchNorm pools over the ranks of torch.distributed by itself and keeps its statistics by step: leave out "
            "what converts torch.nn's batch normalisation, as SyncBatchNorm.convert_sync_batchnorm"
        )


class BatchNorm(Normaliser, _BatchNorm):  # type: ignore[misc]  # bias may be None in both
    """Batch normalisation; inside a recurrence with statistics of its own for every time step.

    Training uses the batch's mean and variance, evaluation the running ones (an exponential average that moves by
    `momentum` a batch). `unbiased` divides the batch's variance by n - 1 instead of n, as the paper did at batch 4
    (Ba et al. 2016, section 6.6). Row t of the running statistics belongs to step t (Cooijmans et al. 2016, section
    3); steps beyond the longest training sequence use the last row. Of a batch shared by ranks, it is the whole.
    Where sequences have several lengths, a step's batch are the cases that still run; the steps at which one is left
    take the running statistics in training too, as they were before, and do not move them.

    The rows are as many as the longest training sequence has steps, and grow with it. `steps` fixes their number, for
    what copies buffers of one model into those of another, as torch.optim.swa_utils.AveragedModel does: the last row is
    then of all steps from `steps` on. Give at most the length of the longest training sequence.

    torch.optim.swa_utils.update_bn knows it as batch normalisation. SyncBatchNorm.convert_sync_batchnorm is refused: it
    would lose the statistics by step, and is not needed.

    Raises ValueError in training when a channel has a single value.
    """

    shown = ("eps", "momentum", "unbiased")
    affine = True
    track_running_stats: Any = _Refusal()
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        unbiased: bool = False,
        gain: float = 1.0,
        bias: bool = True,
        steps: int = 0,
        channels_last: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(num_features, gain, bias, channels_last, device, dtype)
        if not 0 < momentum <= 1:
            raise ModelError(f"norm.momentum={momentum} is no share of a batch; give 0 < norm.momentum <= 1")
        if steps < 0:
            raise ModelError(f"norm.steps={steps} is negative; give the number of rows, or 0 for as many as come")
        self.eps, self.unbiased, self.steps = eps, unbiased, steps
        self.momentum: float | None = momentum  # None, as update_bn sets it: the mean of all batches
        self.register_buffer("running_mean", self.weight.new_empty(0))
        self.register_buffer("running_var", self.weight.new_empty(0))
        # of each row, counted while momentum is None
        self.register_buffer("num_batches_tracked", self.weight.new_empty(0, dtype=torch.long), persistent=False)
        self.reset_running_stats()

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", steps={self.steps}" if self.steps else "")

    def reset_parameters(self) -> None:
        """Set g, b and the running statistics to their initial values."""
        super().reset_parameters()
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Set every running mean to 0 and variance to 1, and forget steps that sequences brought."""
        self._set_rows(self.steps or 1)

    def normalise(self, x: Tensor, t: int) -> Tensor:
        if self.training and ranks.is_distributed():
            y, mean, var, n = ranks.standardise(x, self.eps, self.unbiased)
            self.track(mean, var, n, first=t)
            return self.scale_and_shift(y)
        weight, eps = self.scaled(x.numel() // self.num_features) if self.training else (self.weight, self.eps)
        if self.training:
            self._make_rows(t + 1)
        row = min(t, len(self.running_mean) - 1)
        mean, var = self.running_mean[row], self.running_var[row]
        momentum = self.momentum or (float(self._share(slice(row, row + 1))) if self.training else 0.0)
        # torch.batch_norm, not F.batch_norm: the latter refuses eps = 0, for which the invariances are exact.
        return torch.batch_norm(x, weight, self.bias, mean, var, self.training, momentum, eps, True)

    def over_time(self, z, start=0, cases=None):
        if cases is not None:
            alone = self.frozen()
            return torch.cat([(self if len(z_t) > 1 else alone)(z_t, t) for t, z_t in enumerate(z.split(cases), start)])
        hooks = self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks
        shared = self.steps and start + len(z) > self.steps  # a row of several steps, which move it one by one
        if hooks or (self.training and (ranks.is_distributed() or shared or self.momentum is None)):
            return torch.stack([self(z_t, t) for t, z_t in enumerate(z, start)])
        return self._all_steps(z, start)

    def _all_steps(self, z: Tensor, start: int) -> Tensor:
        """`forward` of every step of z (T, N, C) in one: T*C channels."""
        T, N, C = z.shape
        weight, eps = self.scaled(N) if self.training else (self.weight, self.eps)
        if self.training:
            self._make_rows(start + T)
        mean, var = (rows.reshape(-1) for rows in self.rows(T, start))  # in training views, which are moved
        bias = None if self.bias is None else self.bias.repeat(T)
        channels, momentum = z.transpose(0, 1).reshape(N, T * C), self.momentum or 0.0
        y = torch.batch_norm(channels, weight.repeat(T), bias, mean, var, self.training, momentum, eps, True)
        return y.view(N, T, C).transpose(0, 1).contiguous()

    def frozen(self):
        other = copy.copy(self)  # with the same gain and bias
        other._buffers = {name: buffer.clone() for name, buffer in self.named_buffers()}
        return other.eval()

    def require_batch(self, n: int) -> None:
        if n < 2:
            raise ValueError("batch normalisation needs at least two values per channel in training, got one")

    def scaled(self, n: int) -> tuple[Tensor, float]:
        """(gain, eps) with which the biased variance of n values normalises as the option `unbiased` asks."""
        self.require_batch(n)
        if not self.unbiased:
            return self.weight, self.eps
        # (x - mu)/sqrt(r*var + eps) = r^(-1/2) * (x - mu)/sqrt(var + eps/r)   with r = n/(n-1)
        r = n / (n - 1)
        return self.weight / r**0.5, self.eps / r

    def rows(self, T: int, start: int = 0) -> tuple[Tensor, Tensor]:
        """Running mean and variance (T, C) of T steps from `start` on; the last row stands for all steps beyond it."""
        recorded = len(self.running_mean)
        end = start + T
        row: slice | Tensor = slice(start, end)
        if end > recorded:
            row = torch.arange(start, end, device=self.running_mean.device).clamp_max(recorded - 1)
        return self.running_mean[row], self.running_var[row]

    @torch.no_grad()
    def track(self, mean: Tensor, var: Tensor, n: int | Tensor, first: int = 0) -> None:
        """Move the running statistics from row `first` on towards means and biased variances (T, C) of n values."""
        self._make_rows(first + len(mean))
        own = max(len(self.running_mean) - first, 0)  # steps with a row of their own; all others share the last
        var = var * (n / (n - 1))
        if own:
            self._move(slice(first, first + len(mean)), mean[:own], var[:own])
        for t in range(own, len(mean)):
            self._move(slice(-1, None), mean[t : t + 1], var[t : t + 1])

    def _move(self, rows: slice, mean: Tensor, var: Tensor) -> None:
        share = self._share(rows)
        self.running_mean[rows].lerp_(mean, share)
        self.running_var[rows].lerp_(var, share)

    def _share(self, rows: slice) -> Any:
        """Return how far a batch moves these rows: by `momentum`, or by 1/k for the k-th, so that they become means."""
        if self.momentum is not None:
            return self.momentum
        self.num_batches_tracked[rows] += 1
        return self.num_batches_tracked[rows].to(self.running_mean.dtype).reciprocal()[:, None]

    def _make_rows(self, steps: int) -> None:
        """Append rows up to `steps`, unless their number is fixed."""
        if not self.steps and steps > len(self.running_mean):
            before = self.running_mean, self.running_var, self.num_batches_tracked
            self._set_rows(steps)
            for old, new in zip(before, (self.running_mean, self.running_var, self.num_batches_tracked), strict=True):
                new[: len(old)] = old

    def _set_rows(self, rows: int) -> None:
        """Register so many rows without statistics."""
        self.running_mean = self.running_mean.new_zeros(rows, self.num_features)
        self.running_var = self.running_var.new_ones(rows, self.num_features)
        self.num_batches_tracked = self.num_batches_tracked.new_zeros(rows)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # The number of steps is learnt from the data, so a checkpoint may hold more or fewer rows than this layer.
        for name in ("running_mean", "running_var"):  # torch.nn's have one row, as (C,)
            if (saved := state_dict.get(prefix + name)) is not None and saved.dim() == 1:
                state_dict[prefix + name] = saved[None]
                state_dict.pop(prefix + "num_batches_tracked", None)
        if not self.steps and (saved := state_dict.get(prefix + "running_mean")) is not None:
            self._set_rows(len(saved))
        nn.Module._load_from_state_dict(self, state_dict, prefix, *args)
