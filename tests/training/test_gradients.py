"""Gradients through time: compared with autograd from each step on, and measured in runs on disk."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from experiments.training.gradients import AT_START, LAGS, TRAINED, batches, gradients_of_runs, gradients_through_time
from experiments.training.load import find, load
from models.create_norm import NormLayer
from models.norms import Normaliser
from models.recurrent import CELLS
from models.sequence_classifier import SequenceClassifier
from models.settings import ImageRecurrent
from tests.helpers.networks import LANGUAGE_NORMS as NORMS
from tests.helpers.networks import V, language_model
from tests.helpers.tiny_runs import MODELS, train

T, N, H = 6, 5, 8  # steps, cases, units


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_a_run_that_begins_at_the_step(cell, norm):
    """d loss_T / d h_t: the network is run from h_t on, which is a leaf. Batch normalisation as in training."""
    model = language_model(cell, norm)
    x, targets = torch.randint(V, (N, T)), torch.randint(V, (N, T))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = gradients_through_time(model, x, targets)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for module in model.modules():
        if isinstance(module, Normaliser):
            module.train()
    state = None
    for t in range(T - 1):
        _, state = model(x[:, t : t + 1], state, start=t)
        leaves = [s.detach().requires_grad_() for s in (state if cell == "lstm" else (state,))]
        logits, _ = model(x[:, t + 1 :], tuple(leaves) if cell == "lstm" else leaves[0], start=t + 1)
        loss = F.cross_entropy(logits[:, -1], targets[:, -1], reduction="sum")
        for name, gradient in zip(("h", "c"), torch.autograd.grad(loss, leaves), strict=False):
            expected = gradient.norm(dim=(0, 2)).mean().item()
            assert found[name][t] == pytest.approx(expected, rel=1e-3), (name, t)
    assert all(len(course) == T - 1 for course in found.values()) and len(found) == (2 if cell == "lstm" else 1)


def test_a_gradient_whose_square_float32_cannot_hold_is_not_zero():
    model = language_model("rnn", "none")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "weight_hh" in name:
                parameter.mul_(1e-5)
    course = gradients_through_time(model, torch.randint(V, (N, T)), torch.randint(V, (N, T)))["h"]
    assert 0 < course[0] < 1e-20, course


def test_gradients_of_a_classifier_over_pixels_with_batch_statistics_are_finite():
    """The first pixels are the same in every case: only the noise on the first state gives the batch a variance."""
    torch.manual_seed(0)
    model = SequenceClassifier(ImageRecurrent(hidden_size=H, order="pixels"), (1, 4, 4), 3, NormLayer("bn")).eval()
    images = torch.randn(N, 1, 4, 4)
    images[:, :, 0] = 0
    found = gradients_through_time(model, images, torch.randint(3, (N,)))
    assert all(np.isfinite(course).all() and len(course) == 15 for course in found.values())


def test_runs_on_disk_are_measured_by_lag_and_what_cannot_be_is_named(tmp_path, capsys):
    lstm = train(tmp_path, *MODELS["lstm-ln"]).run_id
    pixels = train(tmp_path, *MODELS["image_gru-bn"]).run_id  # 64 steps, more than lags in a table
    empty = train(tmp_path, *MODELS["rnn-wn"])
    (empty.path / "last.pt").unlink()
    other = train(tmp_path, *MODELS["draw-ln"]).run_id
    found = gradients_of_runs([lstm, empty.run_id, pixels, other], str(tmp_path))
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("gradients through time of 2 runs are left out: ") and "no checkpoint" in line
    assert gradients_of_runs([other], str(tmp_path)).empty
    assert "model=draw reads no sequence" in capsys.readouterr().err
    by_run = found.groupby(["run_id", "moment"])["lag"].apply(list)
    assert by_run[lstm, AT_START] == by_run[lstm, TRAINED] == [1, 2, 3, 4, 5]
    assert len(by_run[pixels, TRAINED]) == LAGS and by_run[pixels, TRAINED][-1] == 63 and len(by_run) == 4

    one = load(find(lstm, str(tmp_path)))
    for moment, model in ((AT_START, one.at_start()), (TRAINED, one.model)):
        courses = [gradients_through_time(model, x, targets)["h"] for x, targets in batches(one)]
        expected = np.exp(np.mean(np.log(courses), 0))[::-1]
        here = found[(found["run_id"] == lstm) & (found["moment"] == moment)]["norm"]
        assert here.tolist() == pytest.approx(expected, rel=1e-3)
