"""The order of the data: every token once, another order each epoch, the same for every norm."""

import pytest
import torch

import data
from experiments.config.errors import ConfigError
from experiments.config.schema import settings
from experiments.training.tasks import LanguageModelling, make_task
from tests.helpers.configs import composed


def test_windows_predict_every_token_once_and_differ_by_epoch():
    text = data.Text(
        tokens={split: torch.arange(103) for split in ("train", "val", "test")},
        vocabulary=[str(i) for i in range(103)],
        unit="char",
        row_length=None,
        manifest={},
    )
    task = LanguageModelling(text, data.settings.TextData(name="x", unit="char", seq_len=10, batch_size=4), 0, "cpu")
    assert task.steps_per_epoch == 2  # (103 - 10) // 10 = 9 windows, the ninth is dropped
    first = [task.batch(step) for step in range(2)]
    for inputs, targets in first:
        assert torch.equal(targets, inputs + 1)
    starts = torch.cat([inputs[:, 0] for inputs, _ in first])
    assert len(set(starts.tolist())) == 8 and len({int(s) % 10 for s in starts}) == 1
    again = torch.cat([task.batch(step)[0][:, 0] for step in range(2)])
    other = torch.cat([task.batch(step)[0][:, 0] for step in range(2, 4)])
    assert torch.equal(starts, again) and not torch.equal(starts, other)

    seen = []

    class Oracle(torch.nn.Module):
        def forward(self, tokens):
            seen.extend((tokens + 1).flatten().tolist())
            return (20.0 * torch.nn.functional.one_hot(tokens + 1, 103),)

    assert task.evaluate(Oracle(), "val")["loss"] == pytest.approx(0, abs=1e-5)
    assert sorted(seen) == list(range(1, 103))


@pytest.mark.parametrize("split, symbols", [("val", 42), ("test", 103)])
def test_a_shortened_validation_text_is_its_start_and_the_test_text_stays_whole(split, symbols):
    tokens = {each: torch.arange(103) for each in ("train", "val", "test")}
    text = data.Text(tokens, [str(i) for i in range(103)], unit="char", row_length=None, manifest={})
    given = data.settings.TextData(name="x", unit="char", seq_len=10, batch_size=4, val_symbols=42)
    seen = []

    def model(tokens):
        seen.extend(tokens.flatten().tolist())
        return (torch.zeros(*tokens.shape, 103),)

    model.eval = lambda: None
    LanguageModelling(text, given, 0, "cpu").evaluate(model, split)
    assert sorted(seen) == list(range(symbols - 1)), "every symbol but the last is an input once"


def test_the_order_of_the_data_is_the_same_for_every_norm():
    images = data.load(settings(composed("data=digits").data))
    tasks = [make_task(images, settings(composed("data=digits").data), seed, "cpu") for seed in (3, 3, 4)]
    batches = [[task.batch(step)[1] for step in range(task.steps_per_epoch)] for task in tasks]
    assert all(torch.equal(a, b) for a, b in zip(batches[0], batches[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(batches[0], batches[2], strict=True))


def test_a_validation_split_without_a_window_is_refused():
    """Else its mean loss is of nothing, and the run counts as diverged."""
    cfg = settings(composed("data=python_docs", "data.val_symbols=60", "data.seq_len=64").data)
    with pytest.raises(ConfigError, match="=60 leaves no window of 65 symbols to validate on"):
        make_task(data.load(cfg), cfg, 0, "cpu")
