"""The scorecard of faults as a table: what happened to the runs, and what the tests observed."""

import json
import platform
from pathlib import Path

from tabulate import tabulate

from experiments.runs.environment import environment


def write(folder: Path, rows: list[dict]) -> None:
    """Write faults.json and faults.md from the reports of the marked tests, a row each.

    rows: scorecard = (row, fault), figure, outcome, test.
    """
    rows.sort(key=lambda row: (order(row["scorecard"][0]), row["scorecard"][1], row["test"]))
    lines = [
        [*row["scorecard"], row.get("figure", ""), row["outcome"], row["test"].removeprefix("tests/")] for row in rows
    ]
    folder.mkdir(parents=True, exist_ok=True)
    content = {"environment": environment(), "machine": platform.machine(), "rows": rows}
    (folder / "faults.json").write_text(json.dumps(content, indent=1) + "\n")
    passed = sum(row["outcome"] == "passed" for row in rows)
    title = "# Injected faults and their outcomes\n\nWritten by `bash scripts/fault_campaign.sh` at commit "
    table = tabulate(lines, ["row", "fault", "figure", "outcome", "test"], tablefmt="github")
    text = f"{title}{environment()['git'][:12]}: {passed} of {len(rows)} tests passed.\n\n{table}\n"
    (folder / "faults.md").write_text(text)


def order(row: str) -> int:
    """Return the sort key of a row: R1 to R16 by number, then those without one."""
    return int(row[1:]) if row[1:].isdigit() else 100
