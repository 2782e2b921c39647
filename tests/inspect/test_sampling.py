"""Sampling: a symbol at a time gives what the whole text gives, a seed its text; prompts stand as they were given."""

import html
import re
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from data.cloze import FIRST
from data.text import START
from experiments.config.errors import ConfigError
from experiments.inspect.sampling import SCALE, Strategy, generate, to_indices
from experiments.runs.folder import RunFolder
from experiments.sample import Sample, images, text, verbatim
from experiments.training.load import Trained, find, load
from models.create_norm import NormLayer
from models.language_model import LanguageModel
from models.recurrent import CELLS
from models.settings import Recurrent
from tests.helpers.commands import ROOT, run
from tests.helpers.configs import composed, trained
from tests.helpers.tiny_runs import MODELS as TINY_MODELS

NORMS = ("none", "bn", "ln", "wn", "gn", "rms")
SMALL = ["model.hidden_size=16", "data.seq_len=12", "data.batch_size=8", "trainer.steps=30", "trainer.evaluations=1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Language models of characters and of words, a classifier of images, DRAW, and handwriting without and with text.

    And order embeddings, a reader and skip-thoughts. Each is trained a little.
    """
    place = tmp_path_factory.mktemp("runs")
    for choice in (
        ["model=lstm", "norm=bn", *SMALL],
        ["model=gru", "norm=ln", "data.unit=word", *SMALL],
        ["model=mlp", "model.hidden_sizes=[8]", "norm=ln", "data=digits", "trainer.steps=2", "trainer.evaluations=1"],
        [*TINY_MODELS["draw-ln"]],
        [*TINY_MODELS["handwriting-rms"]],
        [*TINY_MODELS["handwriting-rms"], "model.window=0", "norm=ln"],
        [*TINY_MODELS["order_embedding-ln"]],
        [*TINY_MODELS["attentive_reader-bn"]],
        [*TINY_MODELS["skip_thoughts-ln"]],
    ):
        outcome = trained(*choice, "optim.lr=0.02", "wandb.mode=disabled", f"runs_dir={place}")
        assert outcome["status"] == "done", outcome
    return place


def sampled(runs, *arguments: str) -> subprocess.CompletedProcess:
    return run("experiments.sample", f"runs_dir={runs}", *arguments)


def options(**given):
    return OmegaConf.merge(OmegaConf.structured(Sample), given)


def written(trained: Trained, capsys, **given) -> str:
    text(trained, options(**given))
    return capsys.readouterr().out


# --- a step at a time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_step_at_a_time_gives_the_logits_of_the_whole_text(cell, norm, backend):
    """Also beyond the eight steps that batch normalisation has statistics of."""
    torch.manual_seed(0)
    model = LanguageModel(Recurrent(name=cell, hidden_size=16, num_layers=2, backend=backend), (), 11, NormLayer(norm))
    for _ in range(3):
        model(torch.randint(11, (6, 8)))
    model.double().eval()
    seen = []

    def choose(logits):
        seen.append(logits)
        return (3 * logits.argmax(-1) + 1) % 11  # any rule

    prompt = torch.randint(11, (2, 3))
    made = [symbol for _, symbol in zip(range(15), generate(model, prompt, choose), strict=False)]
    whole, _ = model(torch.cat([prompt, torch.stack(made, 1)], 1)[:, :-1])
    torch.testing.assert_close(torch.stack(seen, 1), whole[:, 2:], rtol=1e-10, atol=1e-10)


# --- the next symbol --------------------------------------------------------------------------------------------------


def test_symbols_are_drawn_as_temperature_and_top_k_say():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    many = logits.expand(20_000, 4)
    for temperature, top_k in ((1.0, None), (0.5, None), (2.0, 3), (1.0, 99)):
        kept = logits.clone()
        if top_k == 3:
            kept[3] = -torch.inf
        expected = (kept / temperature).softmax(0)
        share = Strategy(temperature, top_k).chooser(seed=1)(many).bincount(minlength=4) / len(many)
        torch.testing.assert_close(share, expected, rtol=0, atol=0.02)
    for certain in (Strategy(0).chooser(1), Strategy(top_k=1).chooser(1), Strategy(1e-300).chooser(1)):
        assert (certain(many) == 2).all()


def test_the_same_seed_writes_the_same_text_and_another_another(runs, capsys):
    trained = load(find("train-lstm", str(runs)))
    first, again, other = (written(trained, capsys, length=80, seed=seed) for seed in (5, 5, 6))
    assert first == again != other and len(first) == 81
    several = written(trained, capsys, length=80, seed=4, samples=2)
    assert several.startswith("--- seed 4\n") and several.endswith(f"--- seed 5\n{first}")
    greedy = {written(trained, capsys, length=80, seed=seed, temperature=0) for seed in (5, 6)}
    assert len(greedy) == 1


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_a_prompt_stands_as_it_was_given_and_the_text_follows(runs):
    prompt = 'x = ["a", {b: 1}], c\\n # ... '
    result = sampled(runs, "run=train-lstm", f"prompt={prompt}", "length=20", "seed=3")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(prompt) and len(result.stdout) == len(prompt) + 20 + 1
    assert len(result.stderr.splitlines()) == 1 and "12 characters" in result.stderr and "bn" in result.stderr


@pytest.mark.parametrize("argument", ["prompt='The '", 'prompt="a, b"', "length=3"])
def test_what_is_quoted_for_hydra_is_left_alone(argument):
    assert verbatim(argument) == argument


def test_words_come_with_spaces_and_lines(runs, capsys):
    trained = load(find("train-gru", str(runs)))
    made = written(trained, capsys, prompt="the class\nis", length=5)
    assert made.startswith("the class \nis ") and len(made.split()) <= 8


@pytest.mark.parametrize(
    "prompt, unit, message",
    [("aé", "char", "'é'"), ("a B", "char", "'B' (nearest: 'b')"), ("clas", "word", "'clas' (nearest: 'class')")],
)
def test_symbols_that_the_vocabulary_lacks_are_named(prompt, unit, message):
    vocabulary = ["a", "b", " ", "\n"] if unit == "char" else ["the", "class"]
    with pytest.raises(ConfigError) as refused:
        to_indices(prompt, vocabulary, unit, "some_text")
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_space_in_a_text_that_writes_another_symbol_for_it():
    with pytest.raises(ConfigError, match=r"' ' \(nearest: '_'\)"):
        to_indices("a a", ["a", "_"], "char", "ptb_char")


def test_drawn_images_are_the_models_and_follow_the_seed(runs, tmp_path):
    model = load(find("train-draw", str(runs))).model
    pictures = []
    for seed in (4, 4, 5):
        path = tmp_path / f"{len(pictures)}.png"
        result = sampled(runs, "run=train-draw", "samples=2", f"seed={seed}", f"output={path}")
        assert result.returncode == 0 and str(path) in result.stdout, result.stderr
        pictures.append(1 - matplotlib.image.imread(path)[..., 0])  # dark is 1
    assert np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[0], pictures[2])
    expected = model.sample(2, torch.Generator().manual_seed(4))[0, 0].numpy()
    np.testing.assert_allclose(pictures[0][: 8 * SCALE : SCALE, : 8 * SCALE : SCALE], expected, atol=0.01)


def strokes_of(path) -> list[list[np.ndarray]]:
    """The strokes (points, 2) of every line of an SVG."""
    drawing = ElementTree.parse(path).getroot()
    paths = [shape.get("d") for shape in drawing.iter("{http://www.w3.org/2000/svg}path")]
    return [[np.array([p.split() for p in part.split("L")], float) for part in d.split("M")[1:]] for d in paths]


def test_handwriting_is_drawn_stroke_by_stroke_and_follows_the_seed(runs, tmp_path):
    trained = load(find("train-handwriting-ln", str(runs)))
    drawn = {}
    for seed in (4, 5, 6):
        path = tmp_path / f"{seed}.svg"
        name = "run=train-handwriting-ln"
        result = sampled(runs, name, "samples=2", "length=40", f"seed={seed}", f"output={path}")
        assert result.returncode == 0 and str(path) in result.stdout, result.stderr
        drawn[seed] = strokes_of(path)
    same = zip(drawn[4][1], drawn[5][0], strict=True)
    assert all(np.allclose(a - a[0], b - b[0], atol=0.11) for a, b in same), "line 1 of seed 4 is line 0 of seed 5"
    line = trained.model.sample(40, generator=torch.Generator().manual_seed(6)).numpy()
    places = line[:, :2].cumsum(0) * trained.manifest["sd"]
    ends = np.flatnonzero(line[:-1, 2]) + 1
    expected, found = np.split(places, ends), drawn[6][0]
    assert [len(stroke) for stroke in found] == [len(stroke) for stroke in expected]
    scale = np.ptp(np.concatenate(found), 0).max() / np.ptp(places, 0).max()
    shape = (places - places.min(0)) * scale
    np.testing.assert_allclose(np.concatenate(found) - np.concatenate(found).min(0), shape, atol=0.11)


def test_handwriting_of_a_text(runs, tmp_path):
    name = "run=train-handwriting-rms"
    result = sampled(runs, name, "prompt=the", "length=30")
    trained = load(find("train-handwriting-rms", str(runs)))
    assert result.returncode == 0 and str(trained.folder.path / "samples.svg") in result.stdout, result.stderr
    (line,) = strokes_of(trained.folder.path / "samples.svg")
    text = torch.tensor([trained.manifest["vocabulary"].index(letter) for letter in "the"])
    expected = trained.model.sample(30, text, generator=torch.Generator().manual_seed(0))
    assert sum(map(len, line)) == len(expected) <= 30


def test_the_nearest_sentences_are_those_with_the_highest_scores(runs):
    trained = load(find("train-order", str(runs)))
    pairs, _ = trained.task().validation()
    with torch.no_grad():
        a, b = trained.model(pairs).unbind(1)

    def lines(number: int, found: int) -> list[str]:
        S = [-(target - a[number]).clamp(min=0).square().sum().item() for target in b]
        best = sorted(range(len(S)), key=lambda n: -S[n])[:found]
        spelled = [" ".join(trained.vocabulary[w] for w in sentence if w) for sentence in pairs[:, 1].tolist()]
        return [f"  {S[n]:8.4f} {'*' if n == number else ' '} {spelled[n]}" for n in best]

    result = sampled(runs, "run=train-order", "samples=2", "seed=4", "top_k=30")
    assert result.returncode == 0, result.stderr
    shown = result.stdout.splitlines()
    assert shown[1:31] == lines(4, 30) and shown[32:] == lines(5, 30) and sum(line[11] == "*" for line in shown) == 2
    query = " ".join(trained.vocabulary[w] for w in pairs[4, 0].tolist() if w)
    assert shown[0] == query
    if "<unk>" not in query:
        again = sampled(runs, "run=train-order", f"prompt={query} ")
        assert [line[13:] for line in again.stdout.splitlines()[1:]] == [line[13:] for line in lines(4, 5)]
    unknown = sampled(runs, "run=train-order", "prompt=The zyzzyva")
    assert "read as <unk>: zyzzyva" in unknown.stderr and unknown.stdout.startswith("the <unk>\n")


def test_the_nearest_sentences_are_those_with_states_of_nearly_one_direction(runs):
    """By the cosine; a sentence does not find itself, and those beside it in the text have a star."""
    trained = load(find("train-skip_thoughts", str(runs)))
    task = trained.task()
    sentences = task.sentences["val"].tolist()
    with torch.no_grad():
        states = [trained.model.encode(torch.tensor([[w for w in sentence if w]]))[0] for sentence in sentences]
    spelled = [" ".join(trained.vocabulary[w] for w in sentence if w) for sentence in sentences]
    middles = task.middles["val"].tolist()
    n, middle = next((n, middle) for n, middle in enumerate(middles) if "<unk>" not in spelled[middle])
    cosines = [torch.cosine_similarity(states[middle], state, 0).item() for state in states]
    result = sampled(runs, "run=train-skip_thoughts", f"seed={n}", f"top_k={len(sentences)}")
    assert result.returncode == 0 and f"{len(sentences)} sentences" in result.stderr, result.stderr
    query, *lines = result.stdout.splitlines()
    assert query == spelled[middle] and len(lines) == len(sentences) - 1, "all but itself"
    assert [float(line[:10]) for line in lines] == pytest.approx(
        sorted((cosine for row, cosine in enumerate(cosines) if row != middle), reverse=True), abs=2e-4
    )
    starred = {line[13:] for line in lines if line[11] == "*"}
    assert starred == {spelled[middle - 1], spelled[middle + 1]}
    again = sampled(runs, "run=train-skip_thoughts", f"prompt={query}", "top_k=1")
    shown, found = again.stdout.splitlines()
    assert shown == query and found == f"  {1:8.4f}   {query}", "a sentence that is given finds its like"


def test_a_reader_shows_what_it_attends_to(runs, tmp_path):
    """Every word of the passage once, escaped and shaded by its attention, with question, answer and prediction."""
    trained = load(find("train-attentive_reader", str(runs)))
    path = tmp_path / "attention.html"
    result = sampled(runs, "run=train-attentive_reader", "samples=40", "seed=2", f"output={path}")
    assert result.returncode == 0 and str(path) in result.stdout, result.stderr
    page = path.read_text()
    task = trained.task()
    inputs, answers = task.validation()
    order = torch.randperm(len(answers), generator=torch.Generator().manual_seed(2))[:40]
    _, attention = trained.model.read(inputs[order])
    vocabulary, Q = task.cloze.vocabulary, task.cloze.question_length
    questions = page.split("<h2>")[1:]
    assert [int(re.match(r"Question (\d+)", question)[1]) for question in questions] == order.tolist()
    for shown, n, weights in zip(questions, order.tolist(), attention, strict=True):
        passage = [vocabulary[index] for index in inputs[n, Q:].tolist() if index]
        marks = re.findall(r'<mark style="background: rgba\(\d+, \d+, \d+, ([\d.]+)\)">(.*?)</mark>', shown)
        assert [html.unescape(re.sub("</?b>", "", word)) for _, word in marks] == passage
        shares = torch.tensor([float(share) for share, _ in marks])
        torch.testing.assert_close(shares, weights[: len(passage)] / weights.max(), rtol=0, atol=6e-4)
        answer = vocabulary[FIRST + int(answers[n])]
        assert {word for _, word in marks if "<b>" in word} == {f"<b>{answer}</b>"}
        assert ": right." in shown or f"the answer is {answer}." in shown
    assert "&lt;unk&gt;" in page and "<unk>" not in page
    again = sampled(runs, "run=train-attentive_reader", "samples=40", "seed=3", f"output={path}")
    assert again.returncode == 0 and path.read_text() != page, "its own page is replaced"


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run=train-mlp"], "classifies images"),
        (["run=train-draw", "top_k=3"], "temperature and top_k are for models of symbols"),
        (["run=train-draw", "prompt=a"], "prompt and length are for text"),
        (["run=train-handwriting-ln", "prompt=the"], "trained without texts"),
        (["run=train-handwriting-ln", "top_k=3"], "top_k=3 is for models of symbols"),
        (["run=train-handwriting-rms"], "prompt= is missing"),
        (["run=train-handwriting-rms", "prompt=t é"], "é is not among"),
        (["run=train-order", "length=3"], "order_embedding finds sentences"),
        (["run=train-skip", "temperature=0.5"], "skip_thoughts finds sentences"),
        (
            ["run=train-attentive_reader", "temperature=0.5"],
            "prompt, length, temperature and top_k are for models that",
        ),
        (["run=train-lsmt"], "nearest: train-lstm"),
        (["run=train-lstm", "temperature=-1"], "temperature=-1"),
        (["run=train-lstm", "prompt=é"], "'é'"),
        (["rum=train-lstm"], "nearest: run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_reported_in_one_line(arguments, message, runs):
    result = sampled(runs, *arguments)
    assert result.returncode == 2 and not result.stdout
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr


def test_text_is_there_as_soon_as_it_is_made(runs):
    """Of a text that would take hours the first characters are read, and then it is ended."""
    arguments = ["run=train-lstm", "length=100000000"]
    command = [sys.executable, "-m", "experiments.sample", f"runs_dir={runs}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert len(process.stdout.read(40)) == 40
        process.stdout.close()  # as `| head` does
        process.wait(60)
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.stderr.close()


# --- pixels -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pixels(tmp_path) -> Trained:
    """An untrained model of the pixels of 28 x 28 images."""
    cfg = composed("data=binarized_mnist", "model=gru", "norm=ln", "model.hidden_size=8")
    torch.manual_seed(0)
    vocabulary = ["0", "1", START]
    model = LanguageModel(Recurrent(name="gru", hidden_size=8), (), 3, NormLayer("ln")).eval()
    return Trained(RunFolder(tmp_path, "run"), cfg, {}, (), 3, vocabulary, 1, model)


def test_a_model_of_pixels_makes_images(pixels, tmp_path, capsys):
    images(pixels, options(samples=3, seed=1))
    assert str(tmp_path / "run" / "samples.png") in capsys.readouterr().out
    shown = matplotlib.image.imread(tmp_path / "run" / "samples.png")[..., 0]
    images(pixels, options(samples=3, seed=1, output=str(tmp_path / "again.png")))
    images(pixels, options(samples=3, seed=2, output=str(tmp_path / "other.png")))
    again, other = (matplotlib.image.imread(tmp_path / f"{name}.png")[..., 0] for name in ("again", "other"))
    assert np.array_equal(shown, again) and not np.array_equal(shown, other)

    # The first image, pixel by pixel: what the model drew in order, dark where it drew a 1.
    choose = Strategy().chooser(seed=1)
    drawn = generate(pixels.model, torch.full((3, 1), 2), lambda logits: choose(logits[:, :2]))
    first = torch.stack([symbol for _, symbol in zip(range(784), drawn, strict=False)], 1)[0].view(28, 28)
    corner = shown[: 28 * SCALE : SCALE, : 28 * SCALE : SCALE]
    assert np.array_equal(corner < 0.5, first.numpy() == 1)


@pytest.mark.parametrize("given", [{"prompt": "0"}, {"length": 3}])
def test_options_of_text_are_refused_for_images(pixels, given):
    with pytest.raises(ConfigError, match="whole images"):
        images(pixels, options(**given))
