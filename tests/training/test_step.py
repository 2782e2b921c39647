"""The training step: both of its forms keep one contract, and the loop comes to the same with either.

CapturedStep runs its operations one by one on a CPU; what stands in for the CUDA graph here runs them at a replay.
"""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from experiments.config.schema import SGD, Adam
from experiments.config.schema import Trainer as Settings
from experiments.runs.folder import RunFolder
from experiments.runs.identity import run_id
from experiments.runs.run import Run
from experiments.training import loop
from experiments.training import step as steps
from experiments.training.optimisation import make_optimizer
from experiments.training.run import train_run
from experiments.training.step import WARM_UP, CapturedStep, EagerStep
from tests.helpers.configs import composed
from tests.helpers.processes import TINY, rows, same

FORMS = [EagerStep, CapturedStep]
OPTIMISERS = [Adam(lr=0.25), Adam(lr=0.25, weight_decay=0.1), SGD(lr=0.25), SGD(lr=0.25, momentum=0.0)]


class Regression:
    """A task whose loss and gradient a test can choose: the mean of factor * sqrt(square + floor)."""

    def loss(self, model, batch):
        x, factor, floor = batch
        return (factor * (model(x).square() + floor).sqrt()).mean()


def batch(factor=1.0, floor=1.0, seed=0) -> tuple[torch.Tensor, ...]:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    return x, torch.tensor(factor), torch.tensor(floor)


INFINITE_LOSS = batch(factor=math.inf)
# Without floor the loss is 0 and its derivative 0 / 0.
INFINITE_GRADIENT = (torch.zeros(4, 3), torch.tensor(1.0), torch.tensor(0.0))


def small(form, optim=OPTIMISERS[0], clip=None):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5, bias=False), nn.Tanh(), nn.Linear(5, 1, bias=False))
    optimizer = make_optimizer(model, optim)
    return model, optimizer, form(model, Regression(), optimizer, clip)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("clip", [None, 1e-3, 100.0])
@pytest.mark.parametrize("optim", OPTIMISERS, ids=str)
def test_steps_are_those_of_a_plain_loop(optim, clip, form):
    model, _, step = small(form, optim, clip)
    plain, task = copy.deepcopy(model), Regression()
    if optim.name == "adam":
        reference = torch.optim.Adam(plain.parameters(), weight_decay=optim.weight_decay)
    else:
        reference = torch.optim.SGD(plain.parameters(), momentum=optim.momentum)
    for k in range(5):
        lr = 0.1 / (k + 1)
        reference.param_groups[0]["lr"] = lr
        reference.zero_grad()
        loss = task.loss(plain, batch(seed=k))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), math.inf if clip is None else clip)
        reference.step()
        assert step(batch(seed=k), lr) == [pytest.approx((loss.item(), norm.item()), rel=1e-5)]
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("optim", OPTIMISERS, ids=str)
@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("bad", [INFINITE_LOSS, INFINITE_GRADIENT], ids=["loss", "gradient"])
def test_a_step_that_is_not_finite_is_not_applied(bad, clip, optim, form):
    model, optimizer, step = small(form, optim, clip)
    step(batch(), 0.25)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    ((loss, norm),) = step(bad, 0.25)
    assert math.isfinite(loss) == (bad is INFINITE_GRADIENT) and not math.isfinite(norm)
    assert same((model.state_dict(), optimizer.state_dict()), before)


@pytest.mark.parametrize("optim", OPTIMISERS, ids=str)
def test_steps_after_one_that_is_not_finite_change_nothing_until_the_host_looks(optim):
    model, optimizer, step = small(CapturedStep, optim)
    assert step(batch(seed=0), 0.25, wait=False) == []
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    assert step(INFINITE_GRADIENT, 0.25, wait=False) == []
    results = step(batch(seed=1), 0.25)
    assert [math.isfinite(norm) for _, norm in results] == [True, False, True]
    assert same((model.state_dict(), optimizer.state_dict()), before)


def test_results_come_in_order_once_and_before_the_buffer_overflows(monkeypatch):
    monkeypatch.setattr(steps, "MOST_UNREAD", 4)
    results_of = {}
    for form in FORMS:
        _, _, step = small(form)
        calls = [step(batch(seed=k), 0.25, wait=k in (1, 8, 9)) for k in range(10)]
        results_of[form] = [result for results in calls for result in results]
        if form is CapturedStep:
            assert [len(results) for results in calls] == [0, 2, 0, 0, 0, 4, 0, 0, 3, 1]
    assert len(results_of[EagerStep]) == 10 and results_of[CapturedStep] == results_of[EagerStep]


def with_graph(step: CapturedStep, record) -> CapturedStep:
    """The step as on a GPU, with `record` in the place of the capture."""
    step.until_capture, step._record = WARM_UP, record
    return step


def test_a_capture_comes_after_warm_up_and_inspected_steps_stay_uncaptured():
    """Recorded once; a replay reads the batch and the rate of its own step."""
    model, _, step = small(CapturedStep, SGD())
    results, events, advance = [], [], step._advance

    def record():
        events.append("record")
        return SimpleNamespace(replay=lambda: (events.append("replay"), advance()))

    step._advance = lambda row=None: (events.append("one by one"), advance(row))
    with_graph(step, record)
    rows = [{} if k == 5 else None for k in range(8)]
    for k in range(8):
        results += step(batch(seed=k), 0.25 / (k + 1), wait=k == 7, row=rows[k])
    assert events == ["one by one"] * WARM_UP + ["record"] + ["replay"] * 2 + ["one by one"] + ["replay"] * 2
    assert rows[5]["grad/0.weight"] > 0

    eager_model, _, eager = small(EagerStep, SGD())
    assert results == [eager(batch(seed=k), 0.25 / (k + 1))[0] for k in range(8)]
    assert same(model.state_dict(), eager_model.state_dict())


def test_a_capture_that_fails_is_reported_once_and_the_steps_go_on(capsys):
    def record():
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        finally:
            raise RuntimeError("the capture was broken")

    model, _, step = small(CapturedStep)
    with_graph(step, record)
    eager_model, _, eager = small(EagerStep)
    for k in range(WARM_UP + 3):
        assert step(batch(seed=k), 0.25) == eager(batch(seed=k), 0.25)
    assert same(model.state_dict(), eager_model.state_dict())
    notice = capsys.readouterr().err
    assert notice.count("\n") == 1 and "(operation not permitted when stream is capturing)" in notice


RUNS = {
    "lstm with dropout": [
        "model=lstm",
        "norm=bn",
        "model.dropout=0.3",
        "data=python_docs",
        "optim.lr=0.0078125",
        *TINY,
    ],
    "statistics": ["model=gru", "norm=ln", "data=python_docs", "trainer.statistics=true", "optim.lr=0.0078125", *TINY],
    "cnn at batch 2": ["model=cnn", "norm=bn", "data=digits", "data.batch_size=2", "optim=sgd", "optim.lr=0.015625"],
}


def finished(arguments: list[str], runs_dir) -> tuple[dict, RunFolder]:
    cfg = composed(*arguments, "wandb.mode=disabled", f"runs_dir={runs_dir}")
    outcome = train_run(Run.of(cfg))
    return outcome, RunFolder(runs_dir, outcome["run_id"])


@pytest.fixture
def captured(monkeypatch):
    """`captured()` makes every run from then on train with CapturedStep, here on the CPU."""

    def switch():
        monkeypatch.setattr(loop, "make_step", lambda *arguments: CapturedStep(*arguments[:-1]))

    return switch


@pytest.mark.parametrize("case", RUNS)
def test_a_run_is_the_same_with_either_form(case, tmp_path, captured):
    """Rows and weights to the last bit: the rates are powers of two, which a float32 tensor holds as they are."""
    arguments = [*RUNS[case], "trainer.steps=23", "trainer.evaluations=2", "optim.schedule=step"]
    eager, first = finished(arguments, tmp_path / "eager")
    captured()
    deferred, second = finished(arguments, tmp_path / "captured")
    assert eager["status"] == deferred["status"] == "done", (eager, deferred)
    # A step schedule multiplies by 0.1, which no binary number holds: the rows until then are exact, the later close.
    exact = [k for k, row in enumerate(rows(first)) if row["step"] <= 11]
    assert exact and [rows(second)[k] for k in exact] == [rows(first)[k] for k in exact]
    for mine, theirs in zip(rows(second), rows(first), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    a, b = (folder.load_checkpoint("cpu")["model"] for folder in (first, second))
    assert all(torch.allclose(a[name], b[name], rtol=1e-3, atol=1e-5) for name in a)


@pytest.mark.parametrize("clip", ["null", "1.0"])
def test_a_run_diverges_at_the_same_step_with_either_form(clip, tmp_path, captured):
    """At a step that is not logged, so that the captured form finds it later."""
    arguments = ["model=mlp", "norm=none", "data=digits", "optim=sgd", "optim.lr=1e38", "optim.warmup_steps=50"]
    arguments += [f"optim.clip={clip}", "trainer.steps=50", "trainer.log_every=7", "optim.momentum=0.99"]
    (eager, first), _ = finished(arguments, tmp_path / "eager"), captured()
    deferred, second = finished(arguments, tmp_path / "captured")
    assert eager["status"] == deferred["status"] == "diverged"
    assert eager["message"] == deferred["message"]
    assert first.summary["diverged_at"] == second.summary["diverged_at"] > 0
    assert rows(first) == rows(second)


@pytest.mark.parametrize("optim", ["adam", "sgd"])
def test_a_captured_run_resumes_bit_for_bit(optim, tmp_path, captured, monkeypatch):
    """Interrupted right after a checkpoint: weights, optimiser with its rate on the device, generators, rows."""
    captured()
    arguments = ["model=lstm", "norm=bn", "model.dropout=0.3", f"optim={optim}", *TINY, "trainer.steps=20"]
    arguments += ["optim.schedule=cosine", "trainer.checkpoint_every=0"]
    _, straight = finished(arguments, tmp_path / "straight")

    from experiments.training.recorder import FolderRecorder

    save = FolderRecorder.save

    def save_and_stop(self, model, optimizer, state):
        save(self, model, optimizer, state)
        if state["step"] == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FolderRecorder, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            finished(arguments, tmp_path / "stopped")
    outcome, stopped = finished(arguments, tmp_path / "stopped")
    assert outcome["status"] == "done" and rows(stopped) == rows(straight)
    assert same(stopped.load_checkpoint("cpu"), straight.load_checkpoint("cpu"))


def test_capture_is_for_cuda_and_can_be_switched_off():
    model, optimizer, _ = small(EagerStep)
    assert type(steps.make_step(model, Regression(), optimizer, None, Settings())) is EagerStep
    on_gpu = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=SimpleNamespace(type="cuda"))]))
    assert type(steps.make_step(on_gpu, None, optimizer, None, Settings(capture=False))) is EagerStep


def test_capture_is_in_the_id_of_runs_on_cuda_alone(monkeypatch):
    """Elsewhere it changes nothing, and the ids of the reference results are from before it was there."""
    yes, no = composed("trainer.capture=true"), composed("trainer.capture=false")
    assert run_id(yes) == run_id(no)
    monkeypatch.setattr("experiments.runs.identity.device_name", lambda cfg: "cuda")
    assert run_id(yes) != run_id(no)
