"""What a run of a sweep costs besides its training: wall seconds a run after the first of a process.

Sweeps of the command line's own entry point, one after the other in this process, of runs that differ in the seed: an
LN-LSTM, one step, validation and test on 2,000 characters each. All that a run costs is in it: configuration, checks,
data, model, that step and evaluation, its files, its checkpoint. Prints the seconds, a number a sweep, as JSON.
"""

import json
import random
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

from experiments.train import main

CHARACTERS = 40_000


def seconds_a_run(runs: int, rounds: int, wandb: str) -> list[float]:
    """Return the seconds a run of each of `rounds` sweeps; a first run before them is not counted.

    wandb: its mode, offline or disabled.
    """
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text("".join(random.Random(0).choices("abcdefgh \n", k=CHARACTERS)), encoding="utf-8")
        fixed = ["model=lstm", "norm=ln", "data=text_file", f"data.path={text}", f"data.cache={folder}/cache"]
        fixed += ["trainer.steps=1", "threads=1", f"wandb.mode={wandb}", f"runs_dir={folder}/runs"]
        seeds = iter(range(1 + runs * rounds))
        times = []
        for count in [1] + [runs] * rounds:
            sys.argv = ["train", "-m", *fixed, "seed=" + ",".join(str(next(seeds)) for _ in range(count))]
            started = time.perf_counter()
            main()
            times.append((time.perf_counter() - started) / count)
    return times[1:]


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        measured = seconds_a_run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    print(json.dumps(measured))
