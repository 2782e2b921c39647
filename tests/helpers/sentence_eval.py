"""Small made-up sets in place of those that judge features of sentences, in their form."""

import hashlib
from pathlib import Path

import numpy as np

from data import sentence_eval

WORDS = ("a", "class", "is", "the", "value", "when", "object", "not", "of", "zyzzyva")
SIZES = {"SICK_train": 60, "SICK_trial": 20, "SICK_test_annotated": 40, "msr_paraphrase_train": 60}
SIZES |= {"msr_paraphrase_test": 30}
LABELLED = 40  # sentences of each class


def write(root: Path, monkeypatch) -> None:
    """Write all files below the folder, and have them taken for the published ones."""
    rng = np.random.default_rng(0)

    def sentence(length: int = 6) -> str:
        return " ".join(rng.choice(WORDS, length))

    checksums = {}
    for name in sentence_eval.FILES:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if "sick" in name:
            scores = rng.uniform(1, 5, SIZES[file.stem]).round(1)
            lines = ["pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"]
            lines += [f"{n}\t{sentence()}\t{sentence()}\t{score}\tNEUTRAL" for n, score in enumerate(scores)]
        elif "msrp" in name:
            lines = ["\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
            lines += [f'{n % 2}\t1\t2\t{sentence()}\t"{sentence()} ' for n in range(SIZES[file.stem])]
        else:  # the class can be read off the words
            mark = "the the the" if name.endswith(("pos", "quote.tok.gt9.5000")) else "of of of"
            lines = [f"{sentence()} {mark} . " for _ in range(LABELLED)] + [""]
        content = "\n".join(lines) + "\n"
        file.write_bytes(content.encode())
        checksums[name] = hashlib.sha256(content.encode()).hexdigest()
    monkeypatch.setattr(sentence_eval, "FILES", checksums)
