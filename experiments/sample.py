"""Text from a trained language model, as it is made; from a model of pixels, images.

python -m experiments.sample run=train-lstm-ln prompt="The " temperature=0.7 length=500
python -m experiments.sample run=results/runs/<run> samples=3 seed=7

A model reads its own output: the state is carried from symbol to symbol. Sample k is that of seed + k.
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from data.text import EOS, START
from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError, nearest
from experiments.config.paths import CONFIGS
from experiments.config.schema import RUNS_DIR
from experiments.config.writable import check_folder
from experiments.runs.folder import write_atomically
from experiments.training.load import UNITS, Trained, find, load

if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 300  # symbols, where none is asked for
SCALE, GAP, GREY = 4, 2, 0.3  # in an image: pixels a side for one of the model's; between two samples, and their shade


@dataclass
class Sample:
    run: str | None = field(
        default=None, metadata={"help": "a run's name in runs_dir, a prefix that no other shares, or its folder"}
    )
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    prompt: str = field(default="", metadata={"help": "beginning of the text"})
    length: int | None = field(default=None, metadata={"help": "characters or words after the prompt; null: 300"})
    temperature: float = field(default=1.0, metadata={"help": "divisor of the logits; 0: always the likeliest symbol"})
    top_k: int | None = field(default=None, metadata={"help": "draw from the k likeliest symbols; null: from all"})
    samples: int = field(default=1, metadata={"help": "number of texts, or of images in one PNG"})
    seed: int = field(default=0, metadata={"help": "seed of the first sample; the next have seed + 1, ..."})
    output: str | None = field(
        default=None, metadata={"help": "PNG file of a model of pixels; null: samples.png in the run's folder"}
    )


ConfigStore.instance().store(name="sample_schema", node=Sample)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="sample")
def sample(cfg: DictConfig) -> None:
    with refusals_in_one_line("sample"):
        _check(cfg)
        trained = load(find(cfg.run, cfg.runs_dir))
        if trained.cfg.model.kind != "text":
            raise ConfigError(
                f"{trained.folder.run_id} is a {trained.cfg.model.name}, which tells classes of images and writes "
                "nothing; name a run of a language model, as python -m experiments.train model=lstm trains one"
            )
        write = images if trained.cfg.data.unit == "pixel" else text
        write(trained, cfg)


def _check(cfg: DictConfig) -> None:
    for name, least in (("length", 1), ("top_k", 1), ("samples", 1), ("seed", 0)):
        if cfg[name] is not None and cfg[name] < least:
            raise ConfigError(f"{name}={cfg[name]} is too small; give {least} or more")
    if not 0 <= cfg.temperature < math.inf:
        raise ConfigError(f"temperature={cfg.temperature} must be 0 (always the likeliest symbol) or above")


# --- the next symbol --------------------------------------------------------------------------------------------------


def generate(model, prompt: "Tensor", choose: Callable[["Tensor"], "Tensor"]) -> Iterator["Tensor"]:
    """Symbols (N,) after the prompts (N, P), one step at a time and without end. choose: logits (N, V) -> symbols."""
    import torch

    with torch.no_grad():
        logits, state = model(prompt)
    for start in range(prompt.shape[1], sys.maxsize):
        symbols = choose(logits[:, -1])
        yield symbols
        with torch.no_grad():
            logits, state = model(symbols[:, None], state, start)


def chooser(temperature: float, top_k: int | None, seed: int) -> Callable[["Tensor"], "Tensor"]:
    """From logits (N, V) the next symbols (N,): softmax(logits / temperature) over the `top_k` likeliest.

    At temperature 0 the likeliest alone. The same seed draws the same.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def choose(logits: "Tensor") -> "Tensor":
        if temperature == 0:
            return logits.argmax(-1)
        logits, symbols = logits.double().topk(min(top_k or logits.shape[-1], logits.shape[-1]))
        chances = ((logits - logits[:, :1]) / temperature).softmax(-1)  # no overflow, however small the temperature
        return symbols.gather(-1, chances.multinomial(1, generator=generator))[:, 0]

    return choose


# --- text -------------------------------------------------------------------------------------------------------------


def text(trained: Trained, cfg: DictConfig) -> None:
    """Every sample to stdout, symbol by symbol; what it is of to stderr."""
    import torch

    if cfg.output is not None:
        raise ConfigError(f"output={cfg.output} is for images; text goes to stdout, write it to a file with >")
    unit, seq_len = trained.cfg.data.unit, trained.cfg.data.seq_len
    prompt = indices(cfg.prompt, trained.vocabulary, unit, trained.cfg.data.name)
    shown = {EOS: "\n"} if unit == "word" else {}
    space = " " if unit == "word" else ""
    torch.set_num_threads(trained.cfg.threads)
    print(f"{trained}; {told(trained.cfg.norm.name, seq_len, unit)}", file=sys.stderr)

    def put(index: int) -> None:
        symbol = trained.vocabulary[index]
        print(shown.get(symbol, symbol + space), end="", flush=True)

    for k in range(cfg.samples):
        if cfg.samples > 1:
            print(f"--- seed {cfg.seed + k}")
        for index in prompt:
            put(index)
        first = torch.tensor([prompt or [start_of(trained.vocabulary)]])
        symbols = generate(trained.model, first, chooser(cfg.temperature, cfg.top_k, cfg.seed + k))
        for _, symbol in zip(range(cfg.length or LENGTH), symbols, strict=False):
            put(int(symbol))
        print()


def told(norm: str, seq_len: int, unit: str) -> str:
    """What a reader should know of a sample that is longer than the windows of training."""
    line = f"it learnt on windows of {seq_len} {UNITS[unit]}s, each from a zero state"
    return line + (", and bn takes the statistics of the last step for all beyond" if norm == "bn" else "")


def start_of(vocabulary: list[str]) -> int:
    """What an empty prompt stands for: the end of a line, which is not shown."""
    known = [symbol for symbol in ("\n", EOS, START) if symbol in vocabulary]
    return vocabulary.index(known[0]) if known else 0


def indices(prompt: str, vocabulary: list[str], unit: str, name: str) -> list[int]:
    """The prompt's symbols as places in the vocabulary. Raises ConfigError for those that are not in it."""
    symbols = list(prompt) if unit == "char" else prompt.replace("\n", f" {EOS} ").split()
    index_of = {symbol: index for index, symbol in enumerate(vocabulary)}
    if unknown := [symbol for symbol in dict.fromkeys(symbols) if symbol not in index_of]:
        near = "; ".join(f"{symbol!r}{_near(symbol, vocabulary, unit)}" for symbol in unknown)
        known = f": {''.join(vocabulary)!r}" if unit == "char" else ""
        raise ConfigError(f"prompt={prompt!r}: not among the {len(vocabulary)} {UNITS[unit]}s of {name}{known}: {near}")
    return [index_of[symbol] for symbol in symbols]


def _near(symbol: str, vocabulary: list[str], unit: str) -> str:
    if unit == "word":
        return f" (nearest: {nearest(symbol, vocabulary)!r})"
    other = "_" if symbol == " " else symbol.swapcase()  # Penn Treebank by character writes a space so
    return f" (nearest: {other!r})" if other in vocabulary else ""


# --- images -----------------------------------------------------------------------------------------------------------


def images(trained: Trained, cfg: DictConfig) -> None:
    """All samples side by side as one PNG: dark is 1, a model's pixels in rows from the top."""
    import matplotlib.image
    import numpy as np
    import torch

    if cfg.prompt or cfg.length is not None:
        raise ConfigError("prompt and length are for text; a model of pixels makes whole images, say samples=...")
    path = Path(cfg.output or trained.folder.path / "samples.png")
    if path.is_dir():
        raise ConfigError(f"output={path} is a folder; give the name of a PNG in it, as output={path}/samples.png")
    check_folder("output", str(path.parent))
    torch.set_num_threads(trained.cfg.threads)
    start, size = start_of(trained.vocabulary), trained.cfg.data.seq_len
    choose = chooser(cfg.temperature, cfg.top_k, cfg.seed)
    # The start symbol is the last of the vocabulary, and no pixel.
    symbols = generate(trained.model, torch.full((cfg.samples, 1), start), lambda logits: choose(logits[:, :start]))
    pixels = torch.stack([symbol for _, symbol in zip(range(size), symbols, strict=False)], 1)
    side, columns = math.isqrt(size), math.ceil(math.sqrt(cfg.samples))
    cell = side * SCALE + GAP
    grid = np.full((math.ceil(cfg.samples / columns) * cell - GAP, columns * cell - GAP), GREY)
    for k, image in enumerate(pixels.view(-1, side, side).numpy()):
        top, left = (place * cell for place in divmod(k, columns))
        grid[top : top + side * SCALE, left : left + side * SCALE] = image.repeat(SCALE, 0).repeat(SCALE, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        path, lambda file: matplotlib.image.imsave(file, grid, cmap="gray_r", vmin=0, vmax=1, format="png")
    )
    print(f"{trained}", file=sys.stderr)
    print(f"{cfg.samples} images: {path}")


# --- the command ------------------------------------------------------------------------------------------------------


def verbatim(argument: str) -> str:
    """prompt=... quoted for Hydra, which would strip it and read commas and brackets as its own."""
    name, _, value = argument.partition("=")
    if name != "prompt" or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return argument
    return f"prompt={QuotedString(value, Quote.double).with_quotes()}"


def main() -> None:
    sys.argv[1:] = map(verbatim, sys.argv[1:])
    command(sample, "sample")


if __name__ == "__main__":
    main()
