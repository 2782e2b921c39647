"""python -m experiments.inspect: its pictures, how runs become cells, and what it refuses."""

import re
import subprocess
from dataclasses import replace

import matplotlib.image
import pytest
from omegaconf import OmegaConf

from experiments.config.errors import ConfigError
from experiments.inspect.cells import Look, cells_of
from experiments.inspect.draw import evenly, legend, location_in_words, panels
from experiments.report.style import STYLE
from experiments.runs.outputs import RECORD
from experiments.training.gradients import batches
from experiments.training.load import find_all, load
from tests.helpers.commands import run
from tests.helpers.configs import trained
from tests.helpers.tiny_runs import MODELS as TINY_MODELS

LSTM = ["model=lstm", "model.hidden_size=8", "data.seq_len=10", "data.batch_size=8", "optim.lr=0.01"]
LSTM += ["trainer.steps=12", "trainer.log_every=3", "trainer.evaluations=1"]
CONV = ["model=cnn", "model.width=4", "data=digits", "optim=sgd", "trainer.steps=4", "trainer.log_every=1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """none, bn, ln in an LSTM with statistics, ln with two seeds; a GRU of two layers; a CNN, handwriting without."""
    place = tmp_path_factory.mktemp("runs")
    statistics = "trainer.statistics=true"
    for overrides in (
        *([*LSTM, f"norm={norm}", statistics] for norm in ("none", "bn", "ln")),
        [*LSTM, "norm=ln", statistics, "seed=1"],
        [*LSTM, "model=gru", "model.num_layers=2", "norm=ln", statistics],
        [*CONV, "norm=bn", "wandb.mode=offline"],
        [*TINY_MODELS["handwriting-rms"]],
        [*TINY_MODELS["skip_thoughts-ln"]],
    ):
        outcome = trained("wandb.mode=disabled", *overrides, f"runs_dir={place}")
        assert outcome["status"] == "done", outcome
    return place


def inspected(runs, *arguments: str) -> subprocess.CompletedProcess:
    return run("experiments.inspect", f"runs_dir={runs}", *arguments)


def words(svg: str) -> str:
    """What is written in a drawing: matplotlib draws letters as paths and leaves each text as a comment."""
    return "\n".join(re.findall(r"<!--(.*?)-->", svg, re.DOTALL))


def test_states_of_handwriting_that_is_of_a_text(runs, tmp_path):
    result = inspected(runs, "run=train-handwriting", f"output={tmp_path}")
    assert result.returncode == 0 and "summed_inputs: RMS logged no mean and std" in result.stderr, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"activations.svg", "activations.png", RECORD}
    caption = words((tmp_path / "activations.svg").read_text())
    assert "handwriting on drawn_lines; 8 trajectories of the validation split" in caption and "layer 2" in caption


def test_normalisers_of_encoder_and_decoders(runs, tmp_path):
    result = inspected(runs, "run=train-skip_thoughts", f"output={tmp_path}")
    assert result.returncode == 0, result.stderr
    caption = words((tmp_path / "activations.svg").read_text())
    assert (
        "skip_thoughts on python_docs_sentences; 64 sentences of the validation split" in caption
        and "encoder" in caption
    )


def test_three_normalisers_side_by_side(runs, tmp_path):
    result = inspected(runs, "run=train-lstm", f"output={tmp_path}")
    assert result.returncode == 0 and not result.stderr, result.stderr
    names = ("activations", "gates", "gradients", "summed_inputs")
    files = {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    assert {path.name for path in tmp_path.iterdir()} == {*files, RECORD}
    for name in names:
        svg = (tmp_path / f"{name}.svg").read_text()
        assert str(tmp_path / f"{name}.svg") in result.stdout
        for norm in ("none", "bn", "ln"):
            assert STYLE[norm][0].lower() in svg and norm.upper() in words(svg), (name, norm)
        assert "lstm on python_docs" in words(svg) and "n = 1 to 2 seeds" in words(svg), name
        assert "nan" not in re.sub("[^a-z]", " ", svg.lower()).split(), name
        image = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert image[0, 0, :3].min() == 1 and image[..., :3].std() > 0.05, name
    assert "step" in words((tmp_path / "summed_inputs.svg").read_text())
    again = inspected(runs, "run=train-lstm", f"output={tmp_path / 'again'}")
    assert again.returncode == 0
    for name in names:
        assert (tmp_path / "again" / f"{name}.svg").read_bytes() == (tmp_path / f"{name}.svg").read_bytes(), name


def test_pictures_of_one_run_lie_in_its_folder_and_in_wandb(runs):
    """A run whose wandb is offline gets an offline run with the pictures; a lack of statistics is reported."""
    [folder] = find_all("train-cnn", str(runs))
    training = sorted((folder.path / "wandb").iterdir())
    result = inspected(runs, "run=train-cnn")
    assert result.returncode == 0, result.stderr
    [message] = result.stderr.splitlines()
    assert "BN" in message and "trainer.statistics=true" in message
    assert {path.suffix for path in (folder.path / "inspect").glob("activations.*")} == {".svg", ".png"}
    assert not list((folder.path / "inspect").glob("gates.*"))
    media = list((folder.path / "inspect").rglob("offline-run-*/files/media/images/**/*.png"))
    assert len(media) == 1 and sorted((folder.path / "wandb").iterdir()) == training


def test_a_run_of_other_cells_than_the_lstm(runs, tmp_path):
    result = inspected(runs, "run=train-gru", f"output={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert "update gate, layer 2" in words((tmp_path / "gates.svg").read_text())
    assert "summed_inputs.svg" in result.stdout


def test_seeds_are_one_cell_and_other_settings_another(runs):
    runs_of = {name: [load(folder) for folder in find_all(f"train-{name}", str(runs))] for name in ("lstm", "lstm-ln")}
    looks = cells_of(runs_of["lstm"])
    assert [(look.name, len(part)) for look, part in looks.items()] == [("NONE", 1), ("BN", 1), ("LN", 2)]
    [one, other] = runs_of["lstm-ln"]
    other.cfg.optim.lr = 0.5
    looks = cells_of([one, other])
    assert [look.name for look in looks] == ["LN, optim.lr 0.01", "LN, optim.lr 0.5"]
    first, second = looks
    assert first.colour == second.colour and (first.marker, first.dash) != (second.marker, second.dash)


def test_normalisers_with_the_same_options_are_two_cells(runs):
    one, other = [load(folder) for folder in find_all("train-lstm-ln", str(runs))]
    other.cfg.norm.name = "rms"
    assert [(look.name, len(part)) for look, part in cells_of([one, other]).items()] == [("LN", 1), ("RMS", 1)]


@pytest.mark.parametrize(
    "argument, message", [("run=train-", "model="), ("run=[train-lstm,trian-cnn]", "nearest: train-cnn")]
)
def test_runs_that_make_no_picture_are_reported_in_one_line(argument, message, runs, tmp_path):
    result = inspected(runs, argument, f"output={tmp_path / 'out'}")
    assert result.returncode == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_validation_split_without_a_batch_is_reported(runs):
    one = load(find_all("train-cnn", str(runs))[0])
    one.cfg.data.batch_size = 600  # of 300 images
    with pytest.raises(ConfigError, match="choose a smaller batch"):
        batches(one)


@pytest.mark.parametrize("count, message", [(9, "9 kinds"), (5, "5 kinds of the runs are of norm=")])
def test_too_many_kinds_are_reported(count, message, runs):
    many = [load(find_all("train-cnn", str(runs))[0]) for _ in range(count)]
    for k, one in enumerate(many):
        one.cfg.optim.lr = float(k + 1)
    with pytest.raises(ConfigError, match=message):
        cells_of(many)


def test_runs_of_two_optimisers_have_names_of_the_fields_that_they_have(runs):
    one, other = [load(folder) for folder in find_all("train-lstm-ln", str(runs))]
    other.cfg.optim = {"name": "sgd", "lr": 0.01, "momentum": 0.9}
    first, second = (look.name for look in cells_of([one, other]))
    assert "optim.name adam" in first and "optim.beta1" in first and "optim.momentum 0.9" in second


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("name", ["LN", "LN, trainer.statistics False, trainer.steps 300"])
def test_a_legend_is_not_cut_off(name, width):
    figure, axes = panels(1, width, (2.6, 2.3), "title", "caption")
    legend(figure, [Look.of(norm, f"{name} {k}", k) for norm in ("ln", "bn") for k in range(4)])
    figure.draw_without_rendering()
    edges = figure.legends[0].get_window_extent()
    assert edges.x0 >= 0 and edges.x1 <= figure.bbox.x1
    assert all(axis.get_window_extent().height > 100 for axis in axes[0])  # of 240 pixels


def test_layers_and_locations_are_named():
    assert evenly(list("abcdefg")) == ["a", "c", "e", "g"] and evenly(list("abc")) == ["a", "b", "c"]
    assert location_in_words("recurrent.norm_hh_l1") == "$W_h h_{t-1}$, layer 2"
    assert location_in_words("convs.3.1") == "convs.3"


def test_networks_of_other_layers_or_data_are_no_one_picture(runs, tmp_path):
    """Texts of two files under one name of a data set would be pooled as seeds."""
    gru = load(find_all("train-gru", str(runs))[0])
    shallow = replace(gru, cfg=OmegaConf.merge(gru.cfg, {"model": {"num_layers": 1}}))
    with pytest.raises(ConfigError, match="different layers"):
        cells_of([gru, shallow])
    other = {**gru.manifest, "sources": [{**gru.manifest["sources"][0], "sha256": "0" * 64}]}
    with pytest.raises(ConfigError, match="different data"):
        cells_of([gru, replace(gru, manifest=other)])
