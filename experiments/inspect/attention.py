"""Where a reader looks: questions of the validation split with their passages, each word shaded by its attention."""

from html import escape
from pathlib import Path

import torch

from data.cloze import FIRST
from experiments.runs.folder import write_atomically
from experiments.training.load import Trained
from experiments.training.tasks import QuestionAnswering

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ max-width: 60em; margin: 2em auto; padding: 0 1em; font: 16px/1.7 Georgia, serif; color: #222; }}
h2 {{ font-size: 1em; margin: 2.5em 0 0; }}
mark {{ color: inherit; padding: 0.1em 0; }}
b {{ border-bottom: 2px solid #222; }}
</style>
<h1>{title}</h1>
<p>{note}</p>
{questions}
</html>
"""


def save_attention(trained: Trained, path: Path, count: int, seed: int) -> None:
    """Write an HTML page of `count` questions, drawn by `seed`, with answers, predictions and attention."""
    torch.set_num_threads(trained.cfg.threads)
    task = trained.task()
    assert isinstance(task, QuestionAnswering)  # the data of a reader
    inputs, answers = task.validation()
    order = torch.randperm(len(answers), generator=torch.Generator().manual_seed(seed))[:count]
    with torch.no_grad():
        logits, attention = trained.model.read(inputs[order])
    errors = task.cloze.manifest["trivial_errors"]["val"]
    note = (
        f"{trained}. Shaded: the share of attention that a word of the passage gets, darkest the largest; underlined: "
        f"the answer. Errors without reading: {errors['most_frequent']:.1f} % for the candidate that is most frequent "
        f"in the passage, {errors['uniform']:.1f} % for one of them by chance."
    )
    shown = zip(order.tolist(), inputs[order], answers[order].tolist(), logits.softmax(1), attention, strict=True)
    questions = "\n".join(_question(task, *each) for each in shown)
    page = PAGE.format(title=escape(trained.folder.run_id), note=escape(note), questions=questions)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(page.encode()))


def _question(task, number: int, symbols: torch.Tensor, answer: int, p: torch.Tensor, attention: torch.Tensor) -> str:
    """Return a question as HTML, its words escaped."""
    vocabulary, Q = task.cloze.vocabulary, task.cloze.question_length
    question, passage = ([index for index in part.tolist() if index] for part in (symbols[:Q], symbols[Q:]))
    weights = (attention[: len(passage)] / attention.max()).tolist()
    words = []
    for index, weight in zip(passage, weights, strict=True):
        word = escape(vocabulary[index])
        word = f"<b>{word}</b>" if index == FIRST + answer else word
        words.append(f'<mark style="background: rgba(220, 120, 0, {weight:.3f})">{word}</mark>')
    likeliest = int(p.argmax())
    answered = escape(f"{vocabulary[FIRST + likeliest]}, {100 * float(p[likeliest]):.0f} %")
    right = "right" if likeliest == answer else f"the answer is {escape(vocabulary[FIRST + answer])}"
    return (
        f"<h2>Question {number}: {escape(' '.join(vocabulary[index] for index in question))}</h2>\n"
        f"<p>{' '.join(words)}</p>\n<p>Answered {answered}: {right}.</p>"
    )
