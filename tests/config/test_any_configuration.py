"""Whatever composes either trains two steps or is refused in one line before anything is written.

A bounded, repeatable walk through the space of configurations; LAYERNORM_EXAMPLES=5000 takes a longer, random one.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.runs.folder import RunFolder
from experiments.runs.run import Run
from experiments.training.run import train_run
from tests.helpers.refusals import checked

# Values of every field, sensible ones, odd ones and impossible ones. `null` stands for one that is not given.
RECURRENT = {
    "hidden_size": [1, 2, 8, 24, 0],
    "num_layers": [1, 2, 3, 0],
    "dropout": [0.0, 0.5, 1.0],
    "placement": ["paper", "per_gate", "cell_only", "input_only", "between_layers", "gates"],
    "backend": ["auto", "reference", "fused", "cuda"],
    "input_scale": [1.0, 0.01, 100.0, 0.0],
    "forget_bias": [1.0, -5.0, "nan"],
}
TEXT_MODEL = RECURRENT | {
    "input": ["auto", "onehot", "embedding", "hot"],
    "embedding_size": [8, 1, 24, -1],
    "tied": ["false", "true"],
}
IMAGE_MODEL = RECURRENT | {"order": ["rows", "pixels", "permuted", "columns"], "state_noise": [0.1, 0.0, -1.0]}
MODELS = {
    **dict.fromkeys(("rnn", "lstm", "gru"), TEXT_MODEL),
    **dict.fromkeys(("image_rnn", "image_lstm", "image_gru"), IMAGE_MODEL),
    "cnn": {"depth": [3, 6, 4, 0], "width": [1, 4, 8, 16, 0]},
    "resnet20": {"width": [1, 4, 16]},
    "mlp": {"hidden_sizes": ["[8]", "[]", "[1]", "[16,5]", "[8,0]"], "norm_output": ["false", "true"]},
}
COMMON = {"eps": [1e-5, 0.0, 10.0, -1.0], "gain": ["null", 1.0, 0.1, 0.0, -2.0, 1e30, "inf"]}
NORMS = {
    "none": {},
    "bn": COMMON | {"momentum": [0.1, 1.0, 0.0], "unbiased": ["false", "true"]},
    "ln": COMMON,
    "wn": {"data_init": ["false", "true"]},
    "gn": COMMON | {"groups": [1, 2, 8, 3, 0, 1000]},
    "in": COMMON,
    "rms": COMMON,
}
BATCH = {"batch_size": [2, 16, 3, 1, 0, 100_000], "eval_batch_size": [64, 1, 100_000]}
IMAGES = BATCH | {
    "val": [20, 1, 0, 1797],
    "test": [20, 1, 0],
    "train_examples": [64, "null", 1, 2],
    "pool": [1, 2, 4, 8, 3],
    "split_seed": [0, 7],
}
DATA = {
    "python_docs": BATCH
    | {
        "unit": ["char", "word", "byte"],
        "seq_len": [7, 1, 16, 200, 10**6],
        "val_blocks": ["[4]", "[9]", "[400]", "[]"],
        "test_blocks": ["[9]", "[1,2]"],
    },
    "digits": IMAGES,
    "noisy_digits": IMAGES
    | {
        "canvas": [12, 8, 4],
        "copies": [1, 2, 0],
        "eval_copies": [1],
        "max_shift": [0, 2, -1],
        "contrast_low": [0.5, 0.0, 2.0],
        "contrast_high": [1.0, 0.0],
        "noise": [0.25, 0.0, "nan"],
    },
}
SHARED = {
    "lr": [0.003, 1e30, 1.0, 0.0],
    "schedule": ["constant", "cosine", "step", "linear"],
    "warmup_steps": [0, 1, 100],
    "clip": ["null", 1.0, 1e-9, 0.0],
    "weight_decay": [0.0, 0.1, -1.0],
    "reference_batch": ["null", 32, 0],
}
OPTIM = {"adam": SHARED | {"beta1": [0.9, 0.0, 1.0], "beta2": [0.999, 0.0]}, "sgd": SHARED | {"momentum": [0.9, 0.0]}}
TRAINER = {
    "evaluations": [1, 2, 50, 0],
    "log_every": [1, 10],
    "statistics": ["false", "true"],
    "measure": ["[]", "[train_test_gap]", "[invariance]", "[invariance,train_test_gap]"],
    "epochs": ["null", "null", 1],  # a second budget
}
REST = {"stage": ["final", "tune", "test"], "seed": [0, 2**31 - 1, -1]}
# Small, so that an example takes a tenth of a second.
FIXED = ["trainer.steps=2", "wandb.mode=disabled", "device=cpu"]
FIXED_OF = {"python_docs": ["data.blocks=400"], "noisy_digits": ["data.eval_copies=1"], "digits": []}


@st.composite
def configurations(draw) -> list[str]:
    """Overrides. Most fields keep their default, or an example would seldom get past its first mistake."""
    found = []

    def some(section: str, values: dict[str, list], most: int) -> None:
        names = draw(st.lists(st.sampled_from(sorted(values)), max_size=most, unique=True)) if values else []
        prefix = f"{section}." if section else ""
        for name in names:
            # The first two values come often: half of what is drawn should make sense.
            found.append(f"{prefix}{name}={draw(st.sampled_from(3 * values[name][:2] + values[name]))}")

    model = draw(st.sampled_from(sorted(MODELS)))
    fitting = ["python_docs"] if MODELS[model] is TEXT_MODEL else ["digits", "noisy_digits"]
    content = draw(st.sampled_from(10 * fitting + sorted(DATA)))
    norm, optim = draw(st.sampled_from(sorted(NORMS))), draw(st.sampled_from(sorted(OPTIM)))
    found += [f"model={model}", f"norm={norm}", f"data={content}", f"optim={optim}", *FIXED, *FIXED_OF[content]]
    small = {"hidden_size": 8, "width": 4, "hidden_sizes": "[16]"}
    found += [f"model.{name}={value}" for name, value in small.items() if name in MODELS[model]]
    some("model", MODELS[model], most=4)
    some("norm", NORMS[norm], most=2)
    some("data", DATA[content], most=4)
    some("optim", OPTIM[optim], most=3)
    some("trainer", TRAINER, most=2)
    some("", REST, most=1)
    return list({override.partition("=")[0]: override for override in found}.values())


def outcome_of(overrides: list[str], runs: Path) -> str:
    """The status of the run, or "refused"; an assertion fails for anything between the two."""
    cfg = checked([*overrides, f"runs_dir={runs}"])
    if isinstance(cfg, str):
        assert not runs.exists()
        return "refused"
    outcome = train_run(Run.of(cfg))
    assert outcome["status"] in ("done", "diverged"), outcome
    assert RunFolder(runs, outcome["run_id"]).finished
    return outcome["status"]


EXAMPLES = os.environ.get("LAYERNORM_EXAMPLES")


@settings(
    max_examples=int(EXAMPLES or 80),
    derandomize=EXAMPLES is None,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(configurations())
def test_a_configuration_trains_or_is_refused(overrides):
    folder = Path(tempfile.mkdtemp())
    try:
        outcome_of(overrides, folder / "runs")
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("overrides", "outcome"),
    [
        (["model=cnn", "norm=ln", "data=digits"], "done"),
        (["model=mlp", "norm=none", "data=digits", "optim=sgd", "optim.lr=1e30"], "diverged"),
        (["model=lstm", "norm=in"], "refused"),
    ],
)
def test_the_walk_reports_what_became_of_a_configuration(overrides, outcome, tmp_path):
    assert outcome_of([*overrides, *FIXED], tmp_path / "runs") == outcome
