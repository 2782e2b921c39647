"""The scorecard of faults as a table: what befell the runs, and what the tests that did it saw."""

import json
import platform
from pathlib import Path

from tabulate import tabulate

from experiments.runs.environment import environment


def write(folder: Path, found: list[dict]) -> None:
    """faults.json and faults.md of the marked tests' reports: scorecard = (row, fault), figure, outcome, test."""
    found.sort(key=lambda row: (order(row["scorecard"][0]), row["scorecard"][1], row["test"]))
    lines = [
        [*row["scorecard"], row.get("figure", ""), row["outcome"], row["test"].removeprefix("tests/")] for row in found
    ]
    folder.mkdir(parents=True, exist_ok=True)
    content = {"environment": environment(), "machine": platform.machine(), "rows": found}
    (folder / "faults.json").write_text(json.dumps(content, indent=1) + "\n")
    passed = sum(row["outcome"] == "passed" for row in found)
    title = "# What befell the runs, and what became of them\n\nWritten by `bash scripts/fault_campaign.sh` at commit "
    table = tabulate(lines, ["row", "fault", "figure", "outcome", "test"], tablefmt="github")
    text = f"{title}{environment()['git'][:12]}: {passed} of {len(found)} tests passed.\n\n{table}\n"
    (folder / "faults.md").write_text(text)


def order(row: str) -> int:
    """R1 to R16 by their number, then what has none."""
    return int(row[1:]) if row[1:].isdigit() else 100
