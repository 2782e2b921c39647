"""Looking inside: gates and gradients against the equations and autograd, and the pictures of the command."""

import re
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS
from experiments.inspect import measure
from experiments.inspect.command import cells_of
from experiments.inspect.draw import Look, evenly, in_words, legend, panels
from experiments.report.style import STYLE
from experiments.training.load import find_all, load
from experiments.training.run import run
from models.build import build
from models.create_norm import NormLayer
from models.language_model import LanguageModel
from models.norms import Normaliser
from models.recurrent import CELLS, PLACEMENTS, equations
from models.sequence_classifier import SequenceClassifier
from models.settings import CNN, ImageRecurrent, Recurrent
from tests.conftest import ROOT

V, T, N, H = 7, 6, 5, 8  # vocabulary, steps, cases, units
NORMS = {"none": {}, "bn": {}, "ln": {}, "wn": {}, "gn": {"groups": 2}, "rms": {}}
OF_GRU = [("gru", place) for place in PLACEMENTS if place != "cell_only"]  # a GRU has no cell state
LSTM = ["model=lstm", "model.hidden_size=8", "data.seq_len=10", "data.batch_size=8", "optim.lr=0.01"]
LSTM += ["trainer.steps=12", "trainer.log_every=3", "trainer.evaluations=1"]
CONV = ["model=cnn", "model.width=4", "data=digits", "optim=sgd", "trainer.steps=4", "trainer.log_every=1"]


def composed(*overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", list(overrides))


def language_model(cell: str, norm: str, placement: str = "paper", **more) -> LanguageModel:
    """Trained statistics, and random gains and shifts."""
    torch.manual_seed(0)
    settings = Recurrent(name=cell, hidden_size=H, num_layers=2, placement=placement, **more)
    model = LanguageModel(settings, (), V, NormLayer(norm, NORMS[norm]))
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    for _ in range(3):
        model(torch.randint(V, (N, T)))
    return model.eval()


# --- measured ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell, placement", [("lstm", place) for place in PLACEMENTS] + OF_GRU)
def test_gates_are_those_that_the_equations_compute(cell, norm, placement, monkeypatch):
    """The equations are run with a logistic function that notes what it gives."""
    model, x = language_model(cell, norm, placement, backend="reference"), torch.randint(V, (N, T))
    noted = []

    class Noting:
        def __getattr__(self, name):
            return getattr(torch, name)

        @staticmethod
        def sigmoid(z):
            noted.append(torch.sigmoid(z))
            return noted[-1]

    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(equations, "torch", Noting())
        model(x)
    calls = torch.stack(noted).unflatten(0, (2, T, -1))  # layers, steps, calls
    if cell == "lstm":
        named = {name: calls[:, :, place] for name, place in (("forget", 0), ("input", 1), ("output", 2))}
    else:
        named = dict(zip(("reset", "update"), calls[:, :, 0].chunk(2, -1), strict=True))
    found = measure.gates(model, x, measure.hidden_states(model, x))
    assert len(found) == 2
    for layer, gates in enumerate(found):
        assert gates.keys() == named.keys()
        for name, values in gates.items():
            torch.testing.assert_close(values, named[name][layer], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_a_run_that_begins_at_the_step(cell, norm):
    """d loss_T / d h_t: the network is run from h_t on, which is a leaf. Batch normalisation as in training."""
    model = language_model(cell, norm)
    x, targets = torch.randint(V, (N, T)), torch.randint(V, (N, T))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = measure.gradients_through_time(model, x, targets)
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


def test_gradients_of_a_classifier_over_pixels_with_batch_statistics_are_finite():
    """The first pixels are the same in every case: only the noise on the first state gives the batch a variance."""
    torch.manual_seed(0)
    model = SequenceClassifier(ImageRecurrent(hidden_size=H, order="pixels"), (1, 4, 4), 3, NormLayer("bn")).eval()
    images = torch.randn(N, 1, 4, 4)
    images[:, :, 0] = 0
    found = measure.gradients_through_time(model, images, torch.randint(3, (N,)))
    assert all(np.isfinite(course).all() and len(course) == 15 for course in found.values())


@pytest.mark.parametrize("norm", NORMS)
def test_activations_are_what_the_network_computes(norm):
    x = torch.randint(V, (N, T))
    model = language_model("gru", norm)
    y, _ = model.recurrent(model.inputs(x))
    found = measure.activations(model, x)
    assert list(found) == ["layer 1", "layer 2"]
    torch.testing.assert_close(found["layer 2"].sort()[0], y.detach().flatten().sort()[0])

    torch.manual_seed(0)
    cnn = build(CNN(depth=3, width=4), (1, 6, 6), 3, NormLayer(norm, NORMS[norm]))
    images = torch.randn(N, 1, 6, 6)
    cnn(images)
    found = measure.activations(cnn.eval(), images)
    assert list(found) == ["convs.0", "convs.1", "convs.2"]
    torch.testing.assert_close(found["convs.0"], cnn.convs[0](images).detach().flatten())


def test_parts_that_are_normalised_apart_are_pooled():
    a, b = 3 + 2 * torch.randn(1000, 16, dtype=torch.float64), torch.randn(1000, 8, dtype=torch.float64)
    parts = [(part.mean().item(), part.std(correction=0).item(), part.shape[1]) for part in (a, b)]
    whole = torch.cat([a, b], 1)
    assert measure._pooled(parts) == pytest.approx((whole.mean().item(), whole.std(correction=0).item()))


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """none, bn and ln in an LSTM with statistics, ln with two seeds; a GRU of two layers; a CNN without statistics."""
    place = tmp_path_factory.mktemp("runs")
    statistics = "trainer.statistics=true"
    for overrides in (
        *([*LSTM, f"norm={norm}", statistics] for norm in ("none", "bn", "ln")),
        [*LSTM, "norm=ln", statistics, "seed=1"],
        [*LSTM, "model=gru", "model.num_layers=2", "norm=ln", statistics],
        [*CONV, "norm=bn", "wandb.mode=offline"],
    ):
        outcome = run(composed("wandb.mode=disabled", *overrides, f"runs_dir={place}"))
        assert outcome["status"] == "done", outcome
    return place


def inspected(runs, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "experiments.inspect", f"runs_dir={runs}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


def words(svg: str) -> str:
    """What is written in a drawing: matplotlib draws letters as paths and leaves each text as a comment."""
    return "\n".join(re.findall(r"<!--(.*?)-->", svg, re.DOTALL))


def test_three_normalisers_side_by_side(runs, tmp_path):
    result = inspected(runs, "run=train-lstm", f"output={tmp_path}")
    assert result.returncode == 0 and not result.stderr, result.stderr
    names = ("activations", "gates", "gradients", "summed_inputs")
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
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
    """A run whose wandb is offline gets an offline run with the pictures; what lacks statistics is told."""
    [folder] = find_all("train-cnn", str(runs))
    training = sorted((folder.path / "wandb").iterdir())
    result = inspected(runs, "run=train-cnn")
    assert result.returncode == 0, result.stderr
    [told] = result.stderr.splitlines()
    assert "BN" in told and "trainer.statistics=true" in told
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
    "argument, told", [("run=train-", "model="), ("run=[train-lstm,trian-cnn]", "nearest: train-cnn")]
)
def test_runs_that_make_no_picture_are_told_in_one_line(argument, told, runs, tmp_path):
    result = inspected(runs, argument, f"output={tmp_path / 'out'}")
    assert result.returncode == 2 and told in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_validation_split_without_a_batch_is_told(runs):
    one = load(find_all("train-cnn", str(runs))[0])
    one.cfg.data.batch_size = 600  # of 300 images
    with pytest.raises(ConfigError, match="choose a smaller batch"):
        measure.batches(one)


def test_too_many_kinds_are_told(runs):
    many = [load(find_all("train-cnn", str(runs))[0]) for _ in range(9)]
    for k, one in enumerate(many):
        one.cfg.optim.lr = float(k + 1)
    with pytest.raises(ConfigError, match="9 kinds"):
        cells_of(many)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("name", ["LN", "LN, trainer.statistics False, trainer.steps 300"])
def test_a_legend_is_not_cut_off(name, width):
    figure, axes = panels(1, width, (2.6, 2.3), "title", "caption")
    legend(figure, [Look.of("ln", f"{name} {k}", k) for k in range(8)])
    figure.canvas.draw()
    edges = figure.legends[0].get_window_extent()
    assert edges.x0 >= 0 and edges.x1 <= figure.bbox.x1
    assert all(axis.get_window_extent().height > 100 for axis in axes[0])  # of 240 pixels


def test_layers_and_places_are_named():
    assert evenly(list("abcdefg")) == ["a", "c", "e", "g"] and evenly(list("abc")) == ["a", "b", "c"]
    assert in_words("recurrent.norm_hh_l1") == "$W_h h_{t-1}$, layer 2" and in_words("convs.3.1") == "convs.3"
