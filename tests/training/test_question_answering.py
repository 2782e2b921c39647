"""Question answering: markers under other numbers are the same task, readers learn it, and killed runs go on alike."""

import signal

import torch

import data
from data.cloze import FIRST
from data.settings import ClozeData, PythonDocsCloze
from experiments.training.tasks import QuestionAnswering
from models.build import build
from models.create_norm import NormLayer
from models.settings import AttentiveReader
from tests.helpers.configs import trained
from tests.helpers.processes import OFTEN, assert_equal, only, start, wait_for

CANDIDATES, Q, P = 6, 2, 9
TINY = ["model=attentive_reader", "model.hidden_size=8", "model.embedding_size=6", "data=python_docs_cloze"]


def task_of(cloze: data.Cloze, seed: int = 0, batch_size: int = 32) -> QuestionAnswering:
    return QuestionAnswering(cloze, ClozeData(name="made", batch_size=batch_size), seed, "cpu")


def after_the_bell(count: int = 2000) -> data.Cloze:
    """Passages of 5 to 9 words, 4 of them different markers; the answer is the one behind the only bell."""
    generator = torch.Generator().manual_seed(0)
    bell, word = FIRST + CANDIDATES, FIRST + CANDIDATES + 1
    inputs, answers = torch.zeros(count, Q + P, dtype=torch.int32), torch.zeros(count, dtype=torch.int64)
    for row, n in zip(inputs, range(count), strict=True):
        length = int(torch.randint(5, P + 1, (), generator=generator))
        places = torch.randperm(length - 1, generator=generator)[:4].sort().values + 1
        markers = torch.randperm(CANDIDATES, generator=generator)[:4]
        passage = torch.full((length,), word)
        passage[places] = FIRST + markers
        [behind, *_] = torch.randperm(4, generator=generator).tolist()
        passage[places[behind] - 1] = bell  # in place of a word, or of the marker before
        row[:1], row[Q : Q + length] = bell, passage
        answers[n] = markers[behind]
    splits = {"train": slice(200, None), "val": slice(100, 200), "test": slice(0, 100)}
    return data.Cloze(
        inputs={split: inputs[part] for split, part in splits.items()},
        answers={split: answers[part] for split, part in splits.items()},
        vocabulary=["<pad>", "@blank", *(f"@entity{k}" for k in range(CANDIDATES)), "bell", "word"],
        candidates=CANDIDATES,
        question_length=Q,
        anonymous=True,
        manifest={"shape": [FIRST + CANDIDATES + 2, Q, P], "classes": CANDIDATES},
    )


def fitted(task: QuestionAnswering, steps: int, lr: float = 0.01, **settings) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build(AttentiveReader(**settings), task.input_shape, task.num_classes, NormLayer("ln"))
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for step in range(steps):
        loss = task.loss(model, task.batch(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def test_a_reader_learns_to_find_the_answer_where_it_looks():
    task = task_of(after_the_bell())
    model = fitted(task, 150, hidden_size=16, embedding_size=16)
    assert task.evaluate(model, "test")["error"] < 10, "a marker of the passage by chance: 75 %"
    inputs, answers = task.validation()
    _, attention = model.read(inputs)
    looked_at = inputs[:, Q:].gather(1, attention.argmax(1, keepdim=True))[:, 0]
    assert (looked_at == FIRST + answers).float().mean() > 0.5


def test_a_reader_of_the_documentation_is_better_than_chance(tmp_path):
    """Through the command's own run: below the error of a candidate drawn from the passage."""
    sizes = ["model.hidden_size=48", "model.embedding_size=32", "model.bidirectional=false", "data.sentences=2"]
    outcome = trained(
        *TINY[:1],
        *TINY[3:],
        *sizes,
        "norm=none",
        "optim.lr=0.01",
        "trainer.steps=150",
        *OFTEN[:1],
        f"runs_dir={tmp_path}",
    )
    folder = only(tmp_path)
    assert outcome["status"] == "done" and folder.finished
    print(folder.summary, data.load(PythonDocsCloze(sentences=2)).manifest)


def test_other_numbers_with_other_embeddings_are_the_same_task():
    """A permutation of the markers in the questions, the embedding and the output changes no probability."""
    task = task_of(after_the_bell(300))
    torch.manual_seed(1)
    model = build(
        AttentiveReader(hidden_size=8, embedding_size=6), task.input_shape, CANDIDATES, NormLayer("ln")
    ).eval()
    inputs, answers = task.validation()
    numbers = torch.randperm(CANDIDATES)
    symbols = torch.arange(task.input_shape[0])
    symbols[FIRST : FIRST + CANDIDATES] = FIRST + numbers
    with torch.no_grad():
        before, loss = model(inputs), task.loss(model, (inputs, answers))
        model.embedding.weight[symbols] = model.embedding.weight.clone()
        model.W.weight[numbers] = model.W.weight.clone()
        after = model(symbols[inputs.long()].int())
        torch.testing.assert_close(after[:, numbers], before)
        torch.testing.assert_close(task.loss(model, (symbols[inputs.long()].int(), numbers[answers])), loss)


def test_markers_have_other_numbers_at_each_step_and_the_same_for_every_run():
    cloze = after_the_bell(300)
    one, again, other = (task_of(cloze, seed, batch_size=50) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for step in range(5) for a, b in zip(one.batch(step), again.batch(step), strict=True))
    assert not torch.equal(one.batch(0)[0], other.batch(0)[0])
    # The two steps of each of two epochs, in the order of the training split.
    epochs = []
    for steps in ((0, 1), (2, 3)):
        order = torch.cat([one.order(step) for step in steps]).argsort()
        epochs.append(torch.cat([one.batch(step)[0] for step in steps])[order])
    first, second = ([inputs.clamp(max=FIRST), inputs.clamp(min=FIRST + CANDIDATES)] for inputs in epochs)
    assert all(map(torch.equal, first, second)), "what is no marker stays"
    assert not torch.equal(*epochs)
    for split in ("val", "test"):
        assert torch.equal(one.inputs[split], other.inputs[split]), "evaluation is the same for every seed"
        assert not torch.equal(one.inputs[split], cloze.inputs[split])


def test_words_that_answer_keep_their_numbers():
    """Candidates of bAbI are words with a meaning."""
    cloze = after_the_bell(300)
    plain = data.Cloze(**{**vars(cloze), "anonymous": False})
    task = task_of(plain)
    inputs, answers = task.batch(0)
    chosen = task.order(0)
    assert torch.equal(inputs, cloze.inputs["train"][chosen]) and torch.equal(answers, cloze.answers["train"][chosen])
    assert torch.equal(task.inputs["val"], cloze.inputs["val"])


def test_a_killed_reader_goes_on_bit_for_bit(tmp_path):
    """Also the numbers of the markers, the dropout, and the batch statistics of steps that few passages have."""
    given = [*TINY, "norm=bn", "model.dropout=0.3", "data.batch_size=8", *OFTEN, "trainer.steps=60"]
    assert trained(*given, f"runs_dir={tmp_path / 'undisturbed'}")["status"] == "done"
    process = start(tmp_path / "killed", *given)
    wait_for(lambda: (tmp_path / "killed").exists() and any(tmp_path.glob("killed/*/last.pt")), process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 0 < only(tmp_path / "killed").load_checkpoint("cpu")["state"]["step"] < 60
    assert trained(*given, f"runs_dir={tmp_path / 'killed'}")["status"] == "done"
    assert_equal(only(tmp_path / "killed"), only(tmp_path / "undisturbed"))
