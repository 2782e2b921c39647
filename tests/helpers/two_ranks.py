"""What test_distributed runs under torchrun, each rank on its share, and once more alone on whole batches."""

import sys

import torch
from hydra import compose, initialize_config_dir
from torch import distributed as dist

import data
from experiments.config.paths import CONFIGS
from experiments.config.schema import norm_options, settings
from experiments.training import distributed
from experiments.training.loop import DivergedError, fit
from experiments.training.tasks import make_task
from models.build import build
from models.create_norm import NormLayer
from models.errors import ModelError

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


class Rows(list):
    """A recorder that keeps the rows."""

    log = list.append

    def restore(self, model, optimizer):
        return {}

    def progress(self, *_):
        pass

    def save(self, *_):
        pass


def start(overrides: list[str], dtype: torch.dtype):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides)
    task = make_task(data.load(settings(cfg.data)), settings(cfg.data), cfg.seed, "cpu")
    if hasattr(task, "images"):
        task.images = {split: x.to(dtype, copy=True) for split, x in task.images.items()}
    torch.manual_seed(cfg.seed)
    model = build(
        settings(cfg.model), task.input_shape, task.num_classes, NormLayer(cfg.norm.name, norm_options(cfg))
    ).to(dtype)
    return cfg, task, model


def trained(case: str, dtype: torch.dtype) -> tuple[list[dict], dict]:
    """The rows of metrics and the weights after STEPS steps of SGD, whose clipping bites."""
    loop = [f"trainer.steps={STEPS}", "trainer.evaluations=2", "trainer.log_every=1"]
    cfg, task, model = start([*CASES[case], "optim=sgd", "optim.lr=0.3", "optim.clip=0.1", *loop], dtype)
    rows = Rows()
    share, recorder = distributed.spread(task, rows)
    fit(model, share, settings(cfg.optim), settings(cfg.trainer), recorder)
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows], model.state_dict()


def diverged_at() -> tuple[int, bool]:
    """With one infinite pixel in the last case of the third batch: the last step made, and are the weights finite?"""
    cfg, task, model = start(
        ["model=mlp", "model.hidden_sizes=[32]", "norm=none", *IMAGES, f"trainer.steps={STEPS}"], torch.float32
    )
    labels = task.labels["train"]
    task.labels["train"] = torch.arange(len(labels))
    case = task.batch(2)[1][-1]
    task.labels["train"] = labels
    task.images["train"][case] = torch.inf
    share, recorder = distributed.spread(task, Rows())
    try:
        fit(model, share, settings(cfg.optim), settings(cfg.trainer), recorder)
    except DivergedError as error:
        return error.step, all(bool(weight.isfinite().all()) for weight in model.parameters())
    return -1, False


def refusal() -> str:
    """What a recurrent layer says whose kernel is asked for, with statistics of a batch that it cannot see whole."""
    _, task, model = start(["model=lstm", "norm=bn", "model.backend=fused", *TEXT], torch.float32)
    try:
        task.loss(model.train(), task.batch(0))
    except ModelError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.join("cpu")
    found = {(case, name): trained(case, dtype) for case in CASES for name, dtype in DTYPES.items()}
    ends = [None] * dist.get_world_size()
    dist.all_gather_object(ends, diverged_at())
    if dist.get_rank() == 0:
        torch.save({"trained": found, "diverged": ends, "refusal": refusal()}, sys.argv[1])
    distributed.leave()
