"""Statistics of a batch that is sharded over the ranks of torch.distributed. With one process nothing here runs."""

import torch
from torch import Tensor
from torch import distributed as dist


def is_distributed() -> bool:
    """Return whether torch.distributed has more than one rank, each with a shard of the batch."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Gather(torch.autograd.Function):
    """x of every rank, stacked: (R, ...). Every rank's loss depends on every x, so their gradients are added up."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


def standardise(x: Tensor, eps: float, unbiased: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (N, C) or (N, C, H, W), one rank's shard, with the mean and variance of each channel over all ranks.

    Returns (x - m) / sqrt(v + eps), with v n/(n-1) in place of v if unbiased; m and v (1, C); and n (1, 1).
    """
    m, v, n = _moments(x)
    y = (x - m) * ((v * (n / (n - 1)) if unbiased else v) + eps).rsqrt()
    return y, m.flatten()[None], v.flatten()[None], n.flatten()[:1, None]


def std_mean(x: Tensor) -> tuple[Tensor, Tensor]:
    """Biased standard deviation and mean (C,) of each channel, over all ranks."""
    if not is_distributed():
        return torch.std_mean(x, (0, *range(2, x.dim())), correction=0)
    mean, var, _ = _moments(x)
    return var.sqrt().flatten(), mean.flatten()


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and number of values of each channel, (1, C) or (1, C, 1, 1), over all ranks.

    From each rank's count n_r, mean m_r and variance v_r (Chan et al. 1979), with no difference of large squares:

        n = sum n_r ;  m = sum n_r m_r / n ;  v = sum n_r (v_r + (m_r - m)^2) / n
    """
    v, m = torch.var_mean(x, (0, *range(2, x.dim())), correction=0, keepdim=True)
    n = torch.full_like(m, x.numel() // x.shape[1])
    n_r, m_r, v_r = _Gather.apply(torch.stack((n, m, v))).unbind(1)
    n = n_r.sum(0)
    m = (n_r * m_r).sum(0) / n
    return m, (n_r * (v_r + (m_r - m).square())).sum(0) / n, n
