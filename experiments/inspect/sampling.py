"""Samples of a trained language model: text, symbol by symbol; of a model of pixels or of whole images, images.

The model reads its own output: the state is carried from symbol to symbol. Shapes: N samples, P symbols of a prompt,
V symbols of the vocabulary.
"""

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
import torch
from torch import Tensor

from data.text import EOS, START
from experiments.config.errors import ConfigError, nearest
from experiments.runs.folder import write_atomically
from experiments.training.load import UNITS, Trained

# In an image of samples: pixels a side for one pixel of the model, pixels between two samples, and their shade.
SCALE, GAP, GREY = 4, 2, 0.3

Chooser = Callable[[Tensor], Tensor]  # logits (N, V) -> symbols (N,)


@dataclass(frozen=True)
class Strategy:
    """How the next symbol is drawn: softmax(logits / temperature) over the `top_k` likeliest symbols."""

    temperature: float = 1.0  # 0: always the likeliest symbol
    top_k: int | None = None  # None: all symbols

    def chooser(self, seed: int) -> Chooser:
        """Return a function that draws symbols. The same seed draws the same ones."""
        generator = torch.Generator().manual_seed(seed)

        def choose(logits: Tensor) -> Tensor:
            if self.temperature == 0:
                return logits.argmax(-1)
            size = logits.shape[-1]
            likeliest, symbols = logits.double().topk(min(self.top_k or size, size))
            # The largest logit becomes 0, so that no temperature, however small, leads to an overflow.
            probabilities = ((likeliest - likeliest[:, :1]) / self.temperature).softmax(-1)
            return symbols.gather(-1, probabilities.multinomial(1, generator=generator))[:, 0]

        return choose


def generate(model, prompt: Tensor, choose: Chooser) -> Iterator[Tensor]:
    """Yield symbols (N,) that continue the prompts (N, P), one step at a time and without end."""
    with torch.no_grad():
        logits, state = model(prompt)
    for start in itertools.count(prompt.shape[1]):
        symbols = choose(logits[:, -1])
        yield symbols
        with torch.no_grad():
            logits, state = model(symbols[:, None], state, start)


def start_symbol(vocabulary: list[str]) -> int:
    """Return the index of the symbol that stands for an empty prompt: the end of a line, which is not printed."""
    candidates = [symbol for symbol in ("\n", EOS, START) if symbol in vocabulary]
    return vocabulary.index(candidates[0]) if candidates else 0


# --- text -------------------------------------------------------------------------------------------------------------


def print_texts(trained: Trained, prompt: str, length: int, samples: int, seed: int, strategy: Strategy) -> None:
    """Print the samples to stdout, symbol by symbol, and what they are samples of to stderr.

    Sample k is drawn with seed + k. Raises ConfigError for a prompt with symbols that the model does not know.
    """
    vocabulary, unit = trained.vocabulary, trained.cfg.data.unit
    prompt_indices = to_indices(prompt, vocabulary, unit, trained.cfg.data.name)
    torch.set_num_threads(trained.cfg.threads)
    print(f"{trained}; {training_windows(trained)}", file=sys.stderr)
    first = torch.tensor([prompt_indices or [start_symbol(vocabulary)]])
    for k in range(samples):
        if samples > 1:
            print(f"--- seed {seed + k}")
        symbols = generate(trained.model, first, strategy.chooser(seed + k))
        for index in itertools.chain(prompt_indices, itertools.islice(map(int, symbols), length)):
            print(printed(vocabulary[index], unit), end="", flush=True)
        print()


def printed(symbol: str, unit: str) -> str:
    """Return a symbol as it is printed: a word with a space behind it, the end of a sentence as a new line."""
    if unit != "word":
        return symbol
    return "\n" if symbol == EOS else f"{symbol} "


def training_windows(trained: Trained) -> str:
    """Return what a reader should know of a sample that is longer than the windows of training."""
    line = f"trained on windows of {trained.cfg.data.seq_len} {UNITS[trained.cfg.data.unit]}s, each from a zero state"
    if trained.cfg.norm.name == "bn":
        line += "; beyond them bn takes the statistics of the last step"
    return line


def to_indices(prompt: str, vocabulary: list[str], unit: str, name: str) -> list[int]:
    """Return the prompt's symbols as indices of the vocabulary. Raises ConfigError for symbols that are not in it."""
    symbols = list(prompt) if unit == "char" else prompt.replace("\n", f" {EOS} ").split()
    index_of = {symbol: index for index, symbol in enumerate(vocabulary)}
    if unknown := [symbol for symbol in dict.fromkeys(symbols) if symbol not in index_of]:
        hints = "; ".join(f"{symbol!r}{nearest_hint(symbol, vocabulary, unit)}" for symbol in unknown)
        allowed = f": {''.join(vocabulary)!r}" if unit == "char" else ""
        raise ConfigError(
            f"prompt={prompt!r}: not among the {len(vocabulary)} {UNITS[unit]}s of {name}{allowed}: {hints}"
        )
    return [index_of[symbol] for symbol in symbols]


def nearest_hint(symbol: str, vocabulary: list[str], unit: str) -> str:
    if unit == "word":
        return f" (nearest: {nearest(symbol, vocabulary)!r})"
    other = "_" if symbol == " " else symbol.swapcase()  # Penn Treebank by character writes a space so
    return f" (nearest: {other!r})" if other in vocabulary else ""


# --- images -----------------------------------------------------------------------------------------------------------


def save_images(trained: Trained, path: Path, samples: int, seed: int, strategy: Strategy) -> None:
    """Draw images pixel by pixel, and save them side by side as one PNG: dark is 1, rows from the top."""
    torch.set_num_threads(trained.cfg.threads)
    start, size = start_symbol(trained.vocabulary), trained.cfg.data.seq_len
    choose = strategy.chooser(seed)
    # The start symbol is the last of the vocabulary, and no pixel.
    symbols = generate(trained.model, torch.full((samples, 1), start), lambda logits: choose(logits[:, :start]))
    pixels = torch.stack(list(itertools.islice(symbols, size)), 1)
    side = math.isqrt(size)
    _save(pixels.view(-1, side, side), path)


def save_drawn_images(trained: Trained, path: Path, samples: int, seed: int) -> None:
    """Let a generative model of whole images draw, and save the probabilities of its pixels in the same way."""
    torch.set_num_threads(trained.cfg.threads)
    _save(trained.model.sample(samples, torch.Generator().manual_seed(seed))[:, 0], path)


def _save(images: Tensor, path: Path) -> None:
    grid = side_by_side(images.numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        path, lambda file: matplotlib.image.imsave(file, grid, cmap="gray_r", vmin=0, vmax=1, format="png")
    )


def side_by_side(images: np.ndarray) -> np.ndarray:
    """Arrange images (N, side, side), 0 to 1, enlarged by SCALE, in a grid that is about as wide as high."""
    count, side, _ = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pitch = side * SCALE + GAP
    grid = np.full((rows * pitch - GAP, columns * pitch - GAP), GREY)
    for k, image in enumerate(images):
        top, left = (pitch * index for index in divmod(k, columns))
        grid[top : top + side * SCALE, left : left + side * SCALE] = image.repeat(SCALE, 0).repeat(SCALE, 1)
    return grid
