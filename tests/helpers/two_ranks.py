"""The program that test_distributed runs under torchrun, each rank on its shard, and once alone on whole batches."""

import sys

import torch
from torch import distributed as dist

import data
from experiments.runs.run import Run
from experiments.training import distributed
from experiments.training.loop import DivergedError, fit
from experiments.training.model import build_model
from experiments.training.tasks import DataTask, make_task
from models.errors import ModelError
from tests.helpers.configs import composed
from tests.helpers.recorder import RowRecorder

STEPS = 4
IMAGES = ["data=digits", "data.batch_size=16"]
CNN = ["model=cnn", "model.depth=3", "model.width=8", *IMAGES]
TEXT = ["data=python_docs", "data.batch_size=8", "data.seq_len=9", "model.hidden_size=24"]
CASES = {
    "cnn bn": ["norm=bn", *CNN],
    "cnn bn unbiased": ["norm=bn", "norm.unbiased=true", *CNN],
    "cnn ln": ["norm=ln", *CNN],
    "cnn gn": ["norm=gn", *CNN],
    "cnn wn": ["norm=wn", "norm.data_init=true", *CNN],
    "mlp bn": ["model=mlp", "model.hidden_sizes=[32,16]", "norm=bn", "model.norm_output=true", *IMAGES],
    "lstm bn": ["model=lstm", "norm=bn", *TEXT],
    "lstm bn unbiased": ["model=lstm", "norm=bn", "norm.unbiased=true", "model.placement=per_gate", *TEXT],
    "gru bn": ["model=gru", "norm=bn", *TEXT],
    "lstm ln": ["model=lstm", "norm=ln", *TEXT],
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def set_up(overrides: list[str], dtype: torch.dtype) -> tuple[Run, DataTask, torch.nn.Module]:
    run = Run.of(composed(*overrides))
    task = make_task(data.load(run.settings.data), run.settings.data, run.cfg.seed, "cpu")
    if hasattr(task, "images"):
        task.images = {split: x.to(dtype, copy=True) for split, x in task.images.items()}
    torch.manual_seed(run.cfg.seed)
    return run, task, build_model(run, task.input_shape, task.num_classes).to(dtype)


def fit_shard(run: Run, task: DataTask, model: torch.nn.Module) -> list[dict]:
    """Train on this rank's shard; return the rows, which only rank 0 has."""
    rows = RowRecorder()
    rank_task, rank_recorder = distributed.shard(task, rows)
    fit(model, rank_task, run.settings.optim, run.settings.trainer, rank_recorder)
    return rows


def trained(case: str, dtype: torch.dtype) -> tuple[list[dict], dict]:
    """Return the rows of metrics and the weights after STEPS steps of SGD with gradients that are clipped."""
    loop = [f"trainer.steps={STEPS}", "trainer.evaluations=2", "trainer.log_every=1"]
    run, task, model = set_up([*CASES[case], "optim=sgd", "optim.lr=0.3", "optim.clip=0.1", *loop], dtype)
    rows = fit_shard(run, task, model)
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows], model.state_dict()


def diverged_at() -> tuple[int, bool]:
    """Return the last step made with an infinite pixel in the third batch, and whether the weights are finite."""
    run, task, model = set_up(
        ["model=mlp", "model.hidden_sizes=[32]", "norm=none", *IMAGES, f"trainer.steps={STEPS}"], torch.float32
    )
    labels = task.labels["train"]
    task.labels["train"] = torch.arange(len(labels))
    last_of_third_batch = task.batch(2)[1][-1]
    task.labels["train"] = labels
    task.images["train"][last_of_third_batch] = torch.inf
    try:
        fit_shard(run, task, model)
    except DivergedError as error:
        return error.step, all(bool(weight.isfinite().all()) for weight in model.parameters())
    return -1, False


def refusal() -> str:
    """Return the error of a recurrent layer whose kernel is asked for, with statistics of a batch that it lacks."""
    _, task, model = set_up(["model=lstm", "norm=bn", "model.backend=fused", *TEXT], torch.float32)
    try:
        task.loss(model.train(), task.batch(0))
    except ModelError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.start_ranks("cpu")
    results = {(case, name): trained(case, dtype) for case in CASES for name, dtype in DTYPES.items()}
    ends = [None] * dist.get_world_size()
    dist.all_gather_object(ends, diverged_at())
    if dist.get_rank() == 0:
        torch.save({"trained": results, "diverged": ends, "refusal": refusal()}, sys.argv[1])
    distributed.end_ranks()
