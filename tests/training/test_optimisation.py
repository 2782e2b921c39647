"""The learning rate of each step."""

import pytest

from experiments.config.schema import SGD, Adam
from experiments.training.optimisation import learning_rate


def test_schedules():
    def rates(optim, steps=100, batch=32):
        return [learning_rate(optim, step, steps, batch) for step in range(steps)]

    assert rates(Adam(lr=0.1)) == [0.1] * 100
    cosine = rates(SGD(lr=0.1, schedule="cosine"))
    assert cosine[0] == 0.1 and cosine[50] == pytest.approx(0.05) and cosine[99] < 1e-4
    step = rates(SGD(lr=1.0, schedule="step"))
    assert [step[k] for k in (0, 49, 50, 74, 75, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = rates(Adam(lr=1.0, warmup_steps=10))
    assert warm[:11] == pytest.approx([0.1 * (k + 1) for k in range(10)] + [1.0])
    assert rates(SGD(lr=0.1, schedule="constant", reference_batch=32), batch=128)[0] == pytest.approx(0.4)
