"""Table 1 of Ba et al. 2016, cell by cell, with the row for RMSNorm of Zhang & Sennrich 2019.

One linear layer a = W x, no bias before the normaliser, eps = 0, float64, batch statistics for BN. A transformation of
W or x either leaves the normalised summed inputs as they are ("Invariant") or does not ("No").

The paper's text (section 5.1) says that all methods are invariant to re-scaling the data set; its table says that
weight normalisation is not. The table is right: sigma_i = ||w_i|| does not see x, so the output grows with it.
"""

import pytest
import torch
from torch import nn

from models.create_norm import norm_after

N, D, H = 8, 5, 7  # cases, inputs, units
DELTA = 3.0

# transformation: (W, x) -> (W', x')
TRANSFORMATIONS = {
    "weight_matrix_rescaling": lambda W, x: (DELTA * W, x),
    "weight_matrix_recentring": lambda W, x: (W + torch.linspace(-1, 2, D, dtype=W.dtype), x),  # W + 1 gamma^T
    "weight_vector_rescaling": lambda W, x: (torch.cat([DELTA * W[:1], W[1:]]), x),
    "dataset_rescaling": lambda W, x: (W, DELTA * x),
    "dataset_recentring": lambda W, x: (W, x + torch.linspace(-1, 2, D, dtype=x.dtype)),
    "single_case_rescaling": lambda W, x: (W, torch.cat([DELTA * x[:1], x[1:]])),
}

INVARIANT, NO = True, False
TABLE = {
    #       W scale    W centre   w_i scale  data scale data centre one case
    "bn": (INVARIANT, NO, INVARIANT, INVARIANT, INVARIANT, NO),
    "wn": (INVARIANT, NO, INVARIANT, NO, NO, NO),
    "ln": (INVARIANT, INVARIANT, NO, INVARIANT, NO, INVARIANT),
    "rms": (INVARIANT, NO, NO, INVARIANT, NO, INVARIANT),
}
CELLS = [
    pytest.param(norm, name, expected, id=f"{norm}-{name}-{'invariant' if expected else 'no'}")
    for norm, row in TABLE.items()
    for name, expected in zip(TRANSFORMATIONS, row, strict=True)
]


def weights_and_data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(H, D, generator=generator, dtype=torch.float64)
    return W, torch.randn(N, D, generator=generator, dtype=torch.float64) + 0.3


def normalised(norm: str, W: torch.Tensor, x: torch.Tensor, eps: float = 0.0) -> torch.Tensor:
    """g_i/sigma_i (w_i^T x - mu_i) + b_i with fixed g and b, whatever W is."""
    module = norm_after(nn.Linear(D, H), norm, {} if norm == "wn" else {"eps": eps}).double()
    layer, normaliser = module
    g, b = torch.linspace(0.5, 2, H, dtype=W.dtype), torch.linspace(-1, 1, H, dtype=W.dtype)
    with torch.no_grad():
        if norm == "wn":
            parts = layer.parametrizations.weight  # original0 is the gain, original1 the vectors that are normalised
            parts.original0.copy_(g[:, None])
            parts.original1.copy_(W)
            layer.bias.copy_(b)
        else:
            layer.weight.copy_(W)
            normaliser.weight.copy_(g)
            normaliser.bias.copy_(b)
            assert layer.bias is None
        return module(x)


def relative_change(norm: str, transformation, eps: float = 0.0) -> float:
    """Largest change of the output under the transformation, relative to the output's largest entry."""
    W, x = weights_and_data()
    before, after = normalised(norm, W, x, eps), normalised(norm, *transformation(W, x), eps)
    return ((after - before).abs().max() / before.abs().max()).item()


@pytest.mark.parametrize("norm, name, invariant", CELLS)
def test_table_1(norm, name, invariant):
    change = relative_change(norm, TRANSFORMATIONS[name])
    if invariant:
        W, x = weights_and_data()
        expected = normalised(norm, W, x)
        torch.testing.assert_close(
            normalised(norm, *TRANSFORMATIONS[name](W, x)), expected, rtol=1e-10, atol=1e-10 * expected.abs().max()
        )
    else:
        assert change > 0.1


@pytest.mark.parametrize("norm", ["bn", "ln", "rms"])
def test_eps_breaks_the_invariance_to_small_weights(norm):
    """With eps = 1e-5 in the root, weights scaled by 0.001 leave a variance below eps; by 1000 all is well."""
    assert relative_change(norm, lambda W, x: (0.001 * W, x)) < 1e-10
    assert relative_change(norm, lambda W, x: (0.001 * W, x), eps=1e-5) > 0.1
    assert relative_change(norm, lambda W, x: (1000 * W, x), eps=1e-5) < 1e-4


def test_every_cell_of_the_table_is_tested():
    assert len(CELLS) == 24 and len({cell.id for cell in CELLS}) == 24
