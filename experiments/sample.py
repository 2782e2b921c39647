"""Sample from a trained language model: text, printed symbol by symbol; from a model of pixels, images; handwriting;
from networks of sentences those that are nearest to another; of a reader the answers, with its attention.

python -m experiments.sample run=train-lstm-ln prompt="The " temperature=0.7 length=500
python -m experiments.sample run=results/runs/<run> samples=3 seed=7
python -m experiments.sample run=train-order_embedding-ln prompt="raised when a key is not found" top_k=3

A model reads its own output: the state is carried from symbol to symbol. Sample k is that of seed + k.
"""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from experiments.cli.command import command, refusals_in_one_line
from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS
from experiments.config.schema import RUNS_DIR
from experiments.config.writable import check_file
from experiments.training.load import Trained, find, load

LENGTH = 300  # symbols, by default
POINTS = 500  # of handwriting


@dataclass
class Sample:
    run: str | None = field(
        default=None, metadata={"help": "a run's name in runs_dir, a prefix that no other shares, or its folder"}
    )
    runs_dir: str = field(default="results/runs", metadata=RUNS_DIR)
    prompt: str = field(
        default="",
        metadata={"help": "beginning of the text; the whole text of handwriting; the sentence to find others by"},
    )
    length: int | None = field(
        default=None,
        metadata={"help": "characters or words after the prompt, null: 300; points of handwriting at most, null: 500"},
    )
    temperature: float = field(
        default=1.0, metadata={"help": "divisor of the logits, factor of variances; 0: always the likeliest symbol"}
    )
    top_k: int | None = field(
        default=None,
        metadata={"help": "draw from the k likeliest symbols; null: from all; where sentences are found: how many"},
    )
    samples: int = field(default=1, metadata={"help": "number of texts, or of images, lines or questions in one file"})
    seed: int = field(default=0, metadata={"help": "seed of the first sample; the next have seed + 1, ..."})
    output: str | None = field(
        default=None,
        metadata={
            "help": "PNG of a model of pixels, SVG of handwriting, HTML of a reader; null: samples.png, samples.svg or "
            "attention.html in the run's folder"
        },
    )


ConfigStore.instance().store(name="sample_schema", node=Sample)


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="sample")
def sample(cfg: DictConfig) -> None:
    with refusals_in_one_line("sample"):
        check(cfg)
        trained = load(find(cfg.run, cfg.runs_dir))
        if trained.cfg.model.kind == "images":
            raise ConfigError(
                f"{trained.folder.run_id} is a {trained.cfg.model.name}, which classifies images and writes nothing; "
                "name a run of a language model, as python -m experiments.train model=lstm trains one"
            )
        if trained.cfg.model.kind == "strokes":
            handwriting(trained, cfg)
        elif trained.cfg.model.kind in ("pairs", "sentences"):
            neighbours(trained, cfg)
        elif trained.cfg.model.kind == "cloze":
            attention(trained, cfg)
        elif trained.cfg.model.kind == "binary" or trained.cfg.data.unit == "pixel":
            images(trained, cfg)
        else:
            text(trained, cfg)


def check(cfg: DictConfig) -> None:
    """Raise ConfigError for a number that is out of range."""
    for name, least in (("length", 1), ("top_k", 1), ("samples", 1), ("seed", 0)):
        if cfg[name] is not None and cfg[name] < least:
            raise ConfigError(f"{name}={cfg[name]} is too small; give {least} or more")
    if not 0 <= cfg.temperature < math.inf:
        raise ConfigError(f"temperature={cfg.temperature} must be 0 (always the likeliest symbol) or above")


def text(trained: Trained, cfg: DictConfig) -> None:
    """Print texts. Raises ConfigError for an option of images."""
    from experiments.inspect.sampling import Strategy, print_texts

    if cfg.output is not None:
        raise ConfigError(f"output={cfg.output} is for images; text goes to stdout, write it to a file with >")
    strategy = Strategy(cfg.temperature, cfg.top_k)
    print_texts(trained, cfg.prompt, cfg.length or LENGTH, cfg.samples, cfg.seed, strategy)


def neighbours(trained: Trained, cfg: DictConfig) -> None:
    """Print the sentences that are nearest to others. Raises ConfigError for an option of texts that are written."""
    from experiments.inspect.retrieval import print_neighbours

    if cfg.length is not None or cfg.temperature != 1 or cfg.output is not None:
        raise ConfigError(
            f"length, temperature and output are for models that write or draw; {trained.cfg.model.name} finds "
            "sentences: say prompt=... or samples=..., and top_k=... for the number found"
        )
    print_neighbours(trained, cfg.prompt, cfg.samples, cfg.seed, cfg.top_k)


def images(trained: Trained, cfg: DictConfig) -> None:
    """Save images. Raises ConfigError for an option of text, and for an output that cannot be written."""
    from experiments.inspect.sampling import Strategy, save_drawn_images, save_images

    drawn = trained.cfg.model.kind == "binary"
    if drawn and (cfg.temperature != 1 or cfg.top_k is not None):
        raise ConfigError("temperature and top_k are for models of symbols; model=draw has neither, leave them out")
    if cfg.prompt or cfg.length is not None:
        raise ConfigError("prompt and length are for text; a model of pixels makes whole images, say samples=...")
    path = Path(cfg.output or trained.folder.path / "samples.png")
    check_file("output", str(path), begins=b"\x89PNG")
    if drawn:
        save_drawn_images(trained, path, cfg.samples, cfg.seed)
    else:
        save_images(trained, path, cfg.samples, cfg.seed, Strategy(cfg.temperature, cfg.top_k))
    print(f"{trained}", file=sys.stderr)
    print(f"{cfg.samples} images: {path}")


def handwriting(trained: Trained, cfg: DictConfig) -> None:
    """Save handwriting. Raises ConfigError for an option of symbols, and for a text that the model cannot write."""
    from experiments.inspect.handwriting import save_handwriting, symbols_of

    if cfg.top_k is not None:
        raise ConfigError(f"top_k={cfg.top_k} is for models of symbols; model=handwriting has none, leave it out")
    text = symbols_of(trained, cfg.prompt)
    path = Path(cfg.output or trained.folder.path / "samples.svg")
    check_file("output", str(path), begins=b"<svg")
    save_handwriting(trained, path, text, cfg.length or POINTS, cfg.samples, cfg.seed, cfg.temperature)
    print(f"{trained}", file=sys.stderr)
    print(f"{cfg.samples} lines: {path}")


def attention(trained: Trained, cfg: DictConfig) -> None:
    """Save a page of questions. Raises ConfigError for an option of text, and for an output that cannot be written."""
    from experiments.inspect.attention import save_attention

    if cfg.prompt or cfg.length is not None or cfg.temperature != 1 or cfg.top_k is not None:
        raise ConfigError(
            "prompt, length, temperature and top_k are for models that write; a reader answers questions of its "
            "validation split, say samples=..."
        )
    path = Path(cfg.output or trained.folder.path / "attention.html")
    check_file("output", str(path), begins=b"<!DOCTYPE html>")
    save_attention(trained, path, cfg.samples, cfg.seed)
    print(f"{trained}", file=sys.stderr)
    print(f"{cfg.samples} questions: {path}")


def verbatim(argument: str) -> str:
    """Quote prompt=... for Hydra, which would strip it and parse its commas and brackets."""
    name, _, value = argument.partition("=")
    if name != "prompt" or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return argument
    return f"prompt={QuotedString(value, Quote.double).with_quotes()}"


def main() -> None:
    sys.argv[1:] = map(verbatim, sys.argv[1:])
    command(sample, "sample")


if __name__ == "__main__":
    main()
