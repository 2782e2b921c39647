"""docs/tour.ipynb runs from the first cell to the last, in a clone."""

import json

import matplotlib.pyplot as plt

from tests.helpers.commands import ROOT


def test_every_cell_runs_and_what_it_says_comes_out(monkeypatch):
    monkeypatch.chdir(ROOT)
    notebook = json.loads((ROOT / "docs" / "tour.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict = {}
    with plt.rc_context({"backend": "agg"}):
        for number, cell in enumerate(cells):
            exec(compile(cell.replace("training_steps=400", "training_steps=5"), f"cell {number}", "exec"), names)
        figures = [plt.figure(number) for number in plt.get_fignums()]
    assert [len(figure.axes) for figure in figures] == [2, 1]
    assert {"bn", "ln"} <= set(names["panels"]["LSTM (bits per character)"].index)
    assert all(len(line.get_ydata()) == names["STEPS"] - 1 for line in figures[1].axes[0].lines)
    plt.close("all")
