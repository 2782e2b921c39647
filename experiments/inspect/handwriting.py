"""Handwriting of a trained model, drawn as SVG: a line under the other."""

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import torch
from torch import Tensor

from data.strokes import latex_symbols
from experiments.config.errors import ConfigError
from experiments.runs.folder import write_atomically
from experiments.training.load import Trained

LINE, GAP = 60, 20  # height of a line and of the space below it, pixels


def symbols_of(trained: Trained, prompt: str) -> Tensor | None:
    """Return the text as indices of the vocabulary, None for a model without a window.

    Raises ConfigError where a text is missing, where there must be none, and for symbols that were not in training.
    """
    name, vocabulary = trained.folder.run_id, trained.manifest["vocabulary"]
    if trained.model.window is None:
        if prompt:
            raise ConfigError(
                f"prompt={prompt}: {name} was trained without texts and writes what it likes; leave prompt out, or "
                "train with model.window=10"
            )
        return None
    if not prompt.strip():
        raise ConfigError(f"prompt= is missing: {name} writes a text; give one, as prompt={_example(trained)}")
    symbols = latex_symbols(prompt) if trained.cfg.data.name == "crohme" else list(prompt)
    if unknown := [symbol for symbol in dict.fromkeys(symbols) if symbol not in vocabulary]:
        raise ConfigError(
            f"prompt={prompt}: {' '.join(unknown)} is not among the {len(vocabulary) - 1} symbols of "
            f"{trained.cfg.data.name}: {' '.join(vocabulary[1:])}"
        )
    return torch.tensor([vocabulary.index(symbol) for symbol in symbols])


def _example(trained: Trained) -> str:
    return r"'x ^ 2 + 1'" if trained.cfg.data.name == "crohme" else "'the method'"


def save_handwriting(
    trained: Trained, path: Path, text: Tensor | None, points: int, samples: int, seed: int, temperature: float
) -> None:
    """Let the model write, and save the lines. Sample k is drawn with seed + k."""
    torch.set_num_threads(trained.cfg.threads)
    lines = [
        trained.model.sample(points, text, temperature, torch.Generator().manual_seed(seed + k)).double().numpy()
        for k in range(samples)
    ]
    scale = np.array([*trained.manifest["sd"], 1.0])
    drawn = svg([line * scale for line in lines], title=str(trained)).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(drawn))


def svg(lines: list[np.ndarray], title: str) -> str:
    """Return a drawing of trajectories (points, 3), each as high as LINE."""
    shapes, width = [], 1.0
    for k, line in enumerate(lines):
        xy = line[:, :2].cumsum(0)
        xy -= xy.min(0)
        xy *= LINE / max(xy[:, 1].max(), xy[:, 0].max() / 20, 1e-9)  # a flat line is no wider than 20 heights
        xy += (GAP, GAP + k * (LINE + GAP))
        width = max(width, xy[:, 0].max() + GAP)
        begins = np.r_[True, line[:-1, 2] == 1]
        path = "".join(f"{'M' if begin else 'L'}{x:.1f} {y:.1f}" for begin, (x, y) in zip(begins, xy, strict=True))
        shapes.append(f'<path d="{path}"/>\n')
    height = len(lines) * (LINE + GAP) + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}">\n'
        f"<title>{escape(title)}</title>\n"
        '<rect width="100%" height="100%" fill="white"/>\n'
        '<g fill="none" stroke="black" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round">\n'
        f"{''.join(shapes)}</g>\n</svg>\n"
    )
