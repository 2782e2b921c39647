"""Every network with every normaliser trains to the committed losses: see tests/helpers/golden.py."""

import pytest

from tests.helpers.golden import golden, holds, losses

GOLDEN = golden()


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: "-".join(filter(None, case)))
def test_losses_are_the_committed_ones(case, tmp_path):
    found = losses(*case, tmp_path)
    hint = "a changed computation? python -m tests.helpers.golden writes tests/golden_losses.csv anew"
    assert holds(found, GOLDEN[case]), f"{found} in place of {GOLDEN[case]}: {hint}"
