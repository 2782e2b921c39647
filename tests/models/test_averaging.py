"""Batch normalisation under what averages models, counts statistics anew or converts them."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from models.create_norm import make_norm, norm_after
from models.errors import ModelError
from models.norms import BatchNorm
from models.recurrent import CELLS, LSTM
from tests.helpers.recurrent import CLOSE, D, H, N, noise

STEPS = 4


def recurrent(cell: str = "lstm", backend: str = "auto", **options) -> nn.Module:
    return CELLS[cell](D, H, norm="bn", norm_options=options, backend=backend, dtype=torch.float64)


def statistics(model: nn.Module) -> list[torch.Tensor]:
    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    assert norms
    return [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]


@pytest.mark.parametrize("make", [recurrent, lambda **_: norm_after(nn.Linear(D, H).double(), "bn")])
def test_update_bn_leaves_the_means_over_the_loader(make):
    """A batch that is longer brings steps that it alone has statistics of."""
    model, batches = make(), [noise(T, N, D, seed=T) for T in (2, 3, 2)]
    model(noise(5, N, D))
    update_bn(batches, model)
    alone = []
    for x in batches:
        other = make(momentum=1.0)
        other.load_state_dict(model.state_dict())
        for norm in other.modules():
            if isinstance(norm, BatchNorm):
                norm.momentum = 1.0
                norm.reset_running_stats()
        other(x)
        alone.append(statistics(other))
    for k, given in enumerate(statistics(model)):
        rows = [each[k] for each in alone if len(each[k]) == len(given)]
        torch.testing.assert_close(given[-1], torch.stack([row[-1] for row in rows]).mean(0), **CLOSE)
        torch.testing.assert_close(given[0], torch.stack([each[k][0] for each in alone]).mean(0), **CLOSE)
    assert all(norm.momentum == 0.1 for norm in model.modules() if isinstance(norm, BatchNorm))


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_update_bn_is_the_same_by_both_backends_and_by_torchs_layer(backend):
    model = recurrent("rnn", backend)
    update_bn([noise(3, N, D, seed=k) for k in range(3)], model)
    other = recurrent("rnn", "reference")
    other.load_state_dict(model.state_dict())
    update_bn([noise(3, N, D, seed=k) for k in range(3)], other)
    torch.testing.assert_close(statistics(model), statistics(other), **CLOSE)

    ours, theirs = make_norm("bn", D).double(), nn.BatchNorm1d(D).double()
    for norm in (ours, theirs):
        update_bn([noise(N, D, seed=k) for k in range(3)], norm)
    torch.testing.assert_close(ours.running_var[0], theirs.running_var, **CLOSE)


@pytest.mark.parametrize("use_buffers", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_averaged_models_take_statistics_of_a_fixed_number_of_steps(cell, use_buffers):
    model = recurrent(cell, steps=STEPS)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=use_buffers)
    seen = []
    for T in (2, 6, 3):
        model(noise(T, N, D, seed=T))
        average.update_parameters(model)
        seen.append([each.clone() for each in statistics(model)])
    for k, given in enumerate(statistics(average.module)):
        first, second, third = (each[k] for each in seen)
        torch.testing.assert_close(given, 0.25 * first + 0.25 * second + 0.5 * third if use_buffers else third, **CLOSE)
    update_bn([noise(STEPS, N, D)], average)
    assert {len(each) for each in statistics(average)} == {STEPS}


def test_averaged_feed_forward_networks_need_no_fixed_number():
    model = norm_after(nn.Linear(D, H).double(), "bn")
    average = AveragedModel(model, use_buffers=True)
    seen = []
    for seed in range(3):
        model(noise(N, D, seed=seed))
        average.update_parameters(model)
        seen.append(statistics(model)[0].clone())
    torch.testing.assert_close(statistics(average)[0], torch.stack(seen).mean(0), **CLOSE)


def test_weight_norms_flag_can_be_averaged():
    model = norm_after(nn.Linear(D, H), "wn", {"data_init": True})
    average = AveragedModel(model, use_buffers=True)
    for _ in range(3):
        model(torch.randn(N, D))
        average.update_parameters(model)
    assert not average.module[1].waiting


@pytest.mark.parametrize("start", [0, 3, 7])
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_with_a_fixed_number_all_later_steps_share_the_last_row(backend, start):
    """input_only: the summed inputs are known beforehand, so each row's statistics are too."""
    layer = LSTM(
        D, H, norm="bn", norm_options={"steps": STEPS}, placement="input_only", backend=backend, dtype=torch.float64
    )
    x = noise(6, N, D)
    layer(x, start=start)
    mean, var = torch.zeros(STEPS, 4 * H, dtype=x.dtype), torch.ones(STEPS, 4 * H, dtype=x.dtype)
    for t, z in enumerate(x @ layer.weight_ih_l0.T, start):
        row = min(t, STEPS - 1)
        mean[row] = 0.9 * mean[row] + 0.1 * z.mean(0)
        var[row] = 0.9 * var[row] + 0.1 * z.var(0)
    torch.testing.assert_close(layer.norm_ih_l0.running_mean, mean, **CLOSE)
    torch.testing.assert_close(layer.norm_ih_l0.running_var, var, **CLOSE)
    other = recurrent(steps=STEPS + 1)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict(recurrent(steps=STEPS).state_dict())


@pytest.mark.parametrize("make", [recurrent, lambda: norm_after(nn.Conv2d(3, H, 1), "bn")])
def test_conversion_to_synchronised_batch_norm_is_refused_not_half_done(make):
    with pytest.raises(ModelError, match=r"leave out .*SyncBatchNorm"):
        nn.SyncBatchNorm.convert_sync_batchnorm(make())


@pytest.mark.parametrize("make", [recurrent, lambda **_: norm_after(nn.Linear(D, H).double(), "bn")])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_batch_norm_can_be_traced(make):
    model, x = make(backend="reference").eval(), noise(2, N, D)
    traced = torch.jit.trace(model, (x,))
    torch.testing.assert_close(traced(x), model(x))


def test_torchs_batch_norm_hands_over_its_statistics():
    theirs = nn.BatchNorm1d(D).double()
    theirs(noise(N, D))
    ours = BatchNorm(D, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    x = noise(N, D, seed=1)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), **CLOSE)
