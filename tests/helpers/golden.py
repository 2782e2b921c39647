"""The first losses of every network with every normaliser, in float64: a refactoring leaves them as they are.

python -m tests.helpers.golden writes tests/golden_losses.csv anew, and leaves a line alone where it still holds.

The configuration, the data, the network, the loop and the optimiser are the real ones. In float64 the losses differ by
less than 1e-12 between instruction sets (ATEN_CPU_CAPABILITY, MKL_CBWR, a kernel built for plain x86-64), one thread
and two, and the fused kernel and the equations. The tolerance leaves room for CPUs that were not tried; a changed eps,
order of the data or start of the weights moves the losses by far more.
"""

import csv
import math
from pathlib import Path

import torch
from hydra import compose

import data
from experiments.cli.compose import hydra_configs
from experiments.config.schema import norm_options, settings
from experiments.training.loop import fit
from experiments.training.tasks import Classification, make_task
from models.build import MODELS, build
from models.create_norm import NormLayer
from models.errors import ModelError
from models.norms import NORMS
from models.recurrent import PLACEMENTS
from tests.helpers.recorder import RowRecorder

FILE = Path(__file__).parents[1] / "golden_losses.csv"
STEPS = 5
LOSSES = [*(f"train_{step + 1}" for step in range(STEPS)), "val"]
TOLERANCE = 1e-9  # relative
# Counting to 3000: a text that is the same under every version of Python.
TEXT = " ".join(map(str, range(3000)))

CASES = [(model, norm, "") for model in MODELS for norm in NORMS]
CASES.remove(("mlp", "in", ""))  # a single value less itself: its output is the rounding error, over sqrt(eps)
CASES += [("lstm", "ln", f"model.placement={placement}") for placement in PLACEMENTS if placement != "paper"]
CASES += [("mlp", "wn", "norm.data_init=true"), ("mlp", "bn", "norm.unbiased=true")]


def losses(model: str, norm: str, option: str, folder: Path) -> list[float]:
    """The training loss of each step, and the validation loss after the last. Raises ModelError for what is refused.

    folder: takes the text.
    """
    overrides = [f"model={model}", f"norm={norm}", *filter(None, [option]), "data.batch_size=16", "seed=1"]
    overrides += [f"trainer.steps={STEPS}", "trainer.evaluations=1", "trainer.log_every=1"]
    (folder / "text.txt").write_text(TEXT)
    text = ["data=text_file", f"data.path={folder / 'text.txt'}", "data.seq_len=12", "model.hidden_size=32"]
    images = ["data=digits"]
    for begin, more in {
        ("rnn", "lstm", "gru"): text,
        ("image",): [*images, "model.hidden_size=32"],
        ("mlp",): [*images, "model.hidden_sizes=[32,32]"],
        ("cnn", "resnet"): [*images, "model.width=8", "optim=sgd", "optim.clip=1.0"],
    }.items():
        overrides += more if model.startswith(begin) else []
    with hydra_configs():
        cfg = compose("train", overrides)

    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    # Images are standardised in the default dtype and stay in memory: neither take another test's nor leave them one.
    data.loading._load.cache_clear()
    try:
        task = make_task(data.load(settings(cfg.data)), settings(cfg.data), cfg.seed, "cpu")
        if isinstance(task, Classification):
            task.images = {split: images.double() for split, images in task.images.items()}
        torch.manual_seed(cfg.seed)
        norm_layer = NormLayer(cfg.norm.name, norm_options(cfg))
        network = build(settings(cfg.model), task.input_shape, task.num_classes, norm_layer)
        fit(network, task, settings(cfg.optim), settings(cfg.trainer), rows := RowRecorder())
    finally:
        torch.set_default_dtype(usual)
        data.loading._load.cache_clear()
    return [*(row["train/loss"] for row in rows), rows[-1]["val/loss"]]


def golden() -> dict[tuple[str, str, str], list[float]]:
    """The committed losses by (model, norm, option)."""
    with open(FILE, newline="") as file:
        return {
            (row["model"], row["norm"], row["option"]): [float(row[name]) for name in LOSSES]
            for row in csv.DictReader(file)
        }


def holds(found: list[float], expected: list[float]) -> bool:
    return all(math.isclose(a, b, rel_tol=TOLERANCE) for a, b in zip(found, expected, strict=True))


def write(folder: Path) -> None:
    known = golden() if FILE.exists() else {}
    lines = []
    for case in CASES:
        try:
            found = losses(*case, folder)
        except ModelError:  # the pair is refused
            continue
        kept = case in known and holds(found, known[case])
        lines.append([*case, *(known[case] if kept else found)])
        if not kept:
            print("new:", *case)
    with open(FILE, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["model", "norm", "option", *LOSSES], *lines])


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
