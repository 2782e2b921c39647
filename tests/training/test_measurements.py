"""Measurements on networks: every cell of Table 1, and what differs between training and evaluation."""

import copy

import pytest
import torch
from torch import nn

import data.settings
from data import Images, Text
from experiments.training.measurements import SCALE, invariance, train_test_gap, training_loss
from experiments.training.tasks import Classification, LanguageModelling
from models.build import build
from models.create_norm import NormLayer
from models.settings import CNN, MLP, ImageRecurrent, Recurrent

CLASSES, IMAGE, BATCH = 4, (1, 5, 5), 16


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def classification() -> Classification:
    """Images whose class is read off their brightest quarter, so that there is something to learn."""
    generator = torch.Generator().manual_seed(5)
    images = {split: torch.randn(100, *IMAGE, generator=generator) for split in ("train", "val", "test")}
    labels = {split: x.flatten(1)[:, :CLASSES].argmax(1) for split, x in images.items()}
    settings = data.settings.ImageData(name="x", val=1, batch_size=BATCH)
    return Classification(Images(images, labels, CLASSES, {}), settings, seed=0, device="cpu")


def language(row_length: int | None = None) -> LanguageModelling:
    generator = torch.Generator().manual_seed(5)
    tokens = {split: torch.randint(7, (330,), generator=generator) for split in ("train", "val", "test")}
    settings = data.settings.TextData(name="x", unit="char", seq_len=6, batch_size=8)
    return LanguageModelling(Text(tokens, list("abcdefg"), "char", row_length, {}), settings, seed=0, device="cpu")


def trained(model: nn.Module, task, steps: int = 20) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(steps):
        optimizer.zero_grad()
        task.loss(model, task.batch(step)).backward()
        optimizer.step()
    return model


def network(norm: str, steps: int = 0, settings=None, **options) -> tuple[nn.Module, Classification]:
    task = classification()
    model = build(settings or MLP(hidden_sizes=[12, 8]), task.input_shape, CLASSES, NormLayer(norm, options))
    return trained(model, task, steps) if steps else model, task


def content(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_untouched(model: nn.Module, before: dict[str, torch.Tensor]) -> None:
    after = model.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


# --- Table 1 ----------------------------------------------------------------------------------------------------------

COLUMNS = (
    "weight_matrix_rescaling",
    "weight_matrix_recentring",
    "weight_vector_rescaling",
    "dataset_rescaling",
    "dataset_recentring",
    "single_case_rescaling",
)
INVARIANT, NO = True, False
TABLE = {  # bn, wn, ln: Ba et al. 2016, table 1. rms: Zhang & Sennrich 2019. gn: as ln, whose groups it is.
    "none": (NO, NO, NO, NO, NO, NO),
    "bn": (INVARIANT, NO, INVARIANT, INVARIANT, INVARIANT, NO),
    "wn": (INVARIANT, NO, INVARIANT, NO, NO, NO),
    "ln": (INVARIANT, INVARIANT, NO, INVARIANT, NO, INVARIANT),
    "gn": (INVARIANT, INVARIANT, NO, INVARIANT, NO, INVARIANT),
    "rms": (INVARIANT, NO, NO, INVARIANT, NO, INVARIANT),
}


@pytest.mark.parametrize("steps", [0, 20], ids=["start", "trained"])
@pytest.mark.parametrize("norm, row", TABLE.items(), ids=TABLE)
def test_table_1(norm, row, steps):
    model, task = network(norm, steps, **({"groups": 4} if norm == "gn" else {}))
    changes = invariance(model, task.images["val"])
    assert list(changes) == [f"change/{column}" for column in COLUMNS]
    for (name, change), invariant in zip(changes.items(), row, strict=True):
        assert change < 1e-12 if invariant else change > 0.05, name


@pytest.mark.parametrize("norm, options", [("bn", {"unbiased": True}), ("wn", {"data_init": True})])
def test_options_of_a_norm_keep_its_row(norm, options):
    model, task = network(norm, **options)
    changes = invariance(model, task.images["val"])
    assert [change < 1e-12 for change in changes.values()] == list(TABLE[norm])


def test_a_change_is_that_of_the_summed_inputs_before_the_non_linearity():
    """Without a norm or bias y = W x: d W changes y by |d - 1| of it, one unit or case by its own share."""
    model, task = network("none")
    x = task.images["val"]
    changes = invariance(model, x)
    y = x.flatten(1) @ model.hidden[0][0].weight.T
    assert changes["change/weight_matrix_rescaling"] == pytest.approx(SCALE - 1)
    assert changes["change/single_case_rescaling"] == pytest.approx(SCALE - 1)
    assert changes["change/weight_vector_rescaling"] == pytest.approx(
        (SCALE - 1) * (y[:, 0].abs().max() / y.abs().max()).item(), rel=1e-5
    )


@pytest.mark.parametrize("norm", ["bn", "wn", "ln"])
def test_invariance_leaves_everything_as_found(norm):
    model, task = network(norm, 3)
    model.eval()
    before, random = content(model), torch.get_rng_state()
    first = invariance(model, task.images["val"])
    assert_untouched(model, before)
    assert not model.training and torch.equal(torch.get_rng_state(), random)
    assert next(model.parameters()).dtype == torch.float32 and getattr(model.hidden[0][1], "eps", 1e-5) == 1e-5
    assert invariance(model, task.images["val"]) == first


@pytest.mark.parametrize(
    "norm, settings, options",
    [("in", MLP(hidden_sizes=[12]), {}), ("gn", MLP(hidden_sizes=[12]), {"groups": 12}), ("ln", CNN(), {})],
)
def test_what_has_no_row_is_refused_in_one_line(norm, settings, options):
    model, task = network(norm, settings=settings, **options)
    with pytest.raises(ValueError) as caught:
        invariance(model, task.images["val"])
    assert "\n" not in str(caught.value)


# --- training against test --------------------------------------------------------------------------------------------

READER = ImageRecurrent(hidden_size=8, dropout=0.5)


@pytest.mark.parametrize(
    "settings", [MLP(hidden_sizes=[8]), CNN(depth=3, width=4), READER], ids=["mlp", "cnn", "reader"]
)
@pytest.mark.parametrize("norm", ["none", "bn", "wn", "ln", "gn", "rms"])
def test_the_gap_of_images_is_that_of_bn_alone(settings, norm):
    model, task = network(norm, 5, settings, **({"groups": 2} if norm == "gn" else {}))
    gap = train_test_gap(model, task)
    assert list(gap) == ["gap/output", "gap/loss"]
    if norm == "bn":
        assert gap["gap/output"] > 1e-3 and gap["gap/loss"] != 0
    else:
        assert gap == {"gap/output": 0.0, "gap/loss": 0.0}


@pytest.mark.parametrize("row_length", [None, 11], ids=["text", "rows"])
@pytest.mark.parametrize("norm", ["bn", "ln"])
def test_the_gap_of_language_models(norm, row_length):
    task = language(row_length)
    model = trained(build(Recurrent(hidden_size=8, dropout=0.3), (), 7, NormLayer(norm)), task, 5)
    gap = train_test_gap(model, task)
    assert (gap["gap/output"] > 1e-3) == (gap["gap/loss"] != 0) == (norm == "bn")
    assert norm == "bn" or gap == {"gap/output": 0.0, "gap/loss": 0.0}


def test_the_gap_is_between_running_statistics_and_those_of_training_batches():
    """By hand, for one batch as large as the validation split: no order of the examples matters then."""
    model, task = network("bn", 5)
    x, labels = task.images["val"], task.labels["val"]
    task.batch_size = len(x)
    expected = copy.deepcopy(model).eval()(x)
    got = copy.deepcopy(model).train()(x)
    gap = train_test_gap(model, task)
    assert gap["gap/output"] == pytest.approx(((expected - got).abs().max() / expected.abs().max()).item(), rel=1e-4)
    loss = nn.functional.cross_entropy
    assert gap["gap/loss"] == pytest.approx((loss(expected, labels) - loss(got, labels)).item(), rel=1e-3)


def test_running_statistics_that_are_those_of_the_batch_leave_no_gap():
    model, task = network("bn")
    task.batch_size = len(task.images["val"])
    for norm in (layer[1] for layer in model.hidden):
        norm.momentum = 1.0
        norm.unbiased = True  # the running variance is the unbiased one
    model(task.images["val"])
    assert train_test_gap(model, task)["gap/output"] < 1e-5


def test_smaller_batches_have_a_larger_gap():
    model, task = network("bn", 50)
    gaps = []
    for task.batch_size in (2, 16, 100):
        gaps.append(train_test_gap(model, task)["gap/output"])
    assert gaps[0] > 1.2 * gaps[1] > 1.2**2 * gaps[2]


@pytest.mark.parametrize("make", [classification, language])
@pytest.mark.parametrize("training", [True, False])
def test_the_gap_leaves_everything_as_found(make, training):
    task = make()
    settings = READER if make is classification else Recurrent(hidden_size=8, dropout=0.3)
    model = trained(build(settings, task.input_shape, task.num_classes, NormLayer("bn")), task, 3).train(training)
    before, random = content(model), torch.get_rng_state()
    first = train_test_gap(model, task)
    assert_untouched(model, before)
    assert all(module.training == training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random) and train_test_gap(model, task) == first
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_less_than_a_batch_is_refused():
    model, task = network("ln")
    task.batch_size = 101
    with pytest.raises(ValueError, match="100 validation examples make no batch of 101"):
        train_test_gap(model, task)


# --- the loss over the training split ---------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "bn"])
def test_the_training_loss_is_that_of_the_whole_split_in_evaluation_mode(norm):
    model, task = network(norm)
    with torch.no_grad():
        logits = model.eval()(task.images["train"])
        expected = nn.functional.cross_entropy(logits, task.labels["train"]).item()
    assert training_loss(model.train(), task) == {"train_eval/loss": pytest.approx(expected, rel=1e-5)}
