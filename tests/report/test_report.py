"""The report: its tables, what is printed, charts and the page."""

import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from hydra import compose
from omegaconf import OmegaConf

from experiments.cli.compose import hydra_configs
from experiments.config.cell import cell
from experiments.config.experiment import Claim, Experiment
from experiments.judging.evidence import RunTables, configs_of, from_folders, from_tables, results_of
from experiments.judging.judge import judge
from experiments.judging.verdict import NOT_RESOLVED
from experiments.report import replication, tables, vega
from experiments.report.build import find, reference_beside, write_report
from experiments.report.page import library
from experiments.report.style import OTHER, STYLE, norms_of
from experiments.runs.identity import run_id
from experiments.runs.rows import CURVE_COLUMNS
from experiments.sweeps.again import cell_overrides
from experiments.sweeps.grid import base, expand
from tests.helpers.commands import ROOT, run
from tests.helpers.synthetic import diverge, folders, gradients
from tests.helpers.synthetic import tables as synthetic

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell")


def report(*arguments: str) -> subprocess.CompletedProcess:
    return run("experiments.report", *arguments)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report on made-up rows of some experiments, one run diverged, LN ahead of GN: (folder, what was printed)."""
    folder = tmp_path_factory.mktemp("made")
    rows, curves = synthetic("standard", ("recurrent_gain", "train_test", "invariance", "groups"))
    rows.loc[(rows["experiment"] == "groups") & (rows["norm"] == "ln"), "test/error"] -= 3
    diverge(rows, 12).to_csv(folder / "runs.csv", index=False)
    curves.to_csv(folder / "curves.csv", index=False)
    constant = (rows["experiment"] == "recurrent_gain") & (rows["schedule"] == "constant")
    gradients(rows[constant]).to_csv(folder / "gradients.csv", index=False)
    result = report("profile=standard", f"rows={folder}", f"output={folder / 'out'}")
    assert result.returncode == 0, result.stderr
    return folder / "out", result.stdout


# --- tables and what is printed ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A report on run folders of one experiment, one run of it missing: (folder, how the command ended)."""
    folder = tmp_path_factory.mktemp("own")
    rows, curves = synthetic("quick", ("invariance",))
    folders(rows.iloc[1:], curves, folder / "runs")
    return folder / "out", report(f"runs_dir={folder / 'runs'}", f"output={folder / 'out'}")


def test_run_folders_and_the_tables_written_from_them_give_the_same_files(own, tmp_path):
    first, _ = own
    result = report(f"rows={first}", f"output={tmp_path}")
    assert result.returncode == 0, result.stderr
    names = [path.relative_to(first) for path in first.rglob("*") if path.suffix != ".html" and path.is_file()]
    assert len(names) > 8
    for name in names:
        assert (tmp_path / name).read_text() == (first / name).read_text(), name


def test_a_report_of_known_rows_and_run_folders_is_that_of_all_its_runs(tmp_path):
    """A part of the experiment was run elsewhere; without the other part a claim waits for its runs."""
    rows, curves = synthetic("quick", ("invariance",))
    here = rows["norm"] == "bn"
    folders(rows[here], curves, tmp_path / "runs")
    (tmp_path / "rows").mkdir()
    for table, name in ((rows[~here], "runs"), (curves[~curves["run_id"].isin(rows.loc[here, "run_id"])], "curves")):
        table.to_csv(tmp_path / "rows" / f"{name}.csv", index=False)
    waiting, judged = {}, {}
    for given in ("rows", "known"):
        out = tmp_path / given / "report"
        arguments = (f"{given}={tmp_path / 'rows'}", f"runs_dir={tmp_path / 'runs'}", f"output={out}")
        result = report("profile.experiments=[invariance]", *arguments)
        assert result.returncode == 0, result.stderr
        claims = json.loads((out / "claims.json").read_text())["claims"]
        assert ("These claims wait for runs: " in (out / "claims.md").read_text()) == (given == "rows")
        assert ("These claims wait for runs: " in (out / "report.html").read_text()) == (given == "rows")
        judged[given] = {claim["claim"] for claim in claims if tables.has_runs(claim)}
        waiting[given] = {claim["claim"] for claim in claims} - judged[given]
    assert waiting == {"rows": {"table1_bn"}, "known": set()} and judged["rows"]
    earlier = rows.iloc[[0]].assign(run_id="invariance-of-an-earlier-rule-00000000")
    pd.concat([rows[~here], earlier]).to_csv(tmp_path / "rows" / "runs.csv", index=False)
    result = report("profile.experiments=[invariance]", *arguments)
    assert result.returncode == 0 and "1 rows of " in result.stderr and "left out" in result.stderr, result.stderr
    written = pd.read_csv(out / "runs.csv", dtype={"git": str}).set_index("run_id")
    made = rows.set_index("run_id").loc[written.index, written.columns]
    pd.testing.assert_frame_equal(written, made, check_dtype=False)
    assert len(written) == len(rows) and len(pd.read_csv(out / "curves.csv")) == len(curves)


def test_a_missing_run_is_reported_and_a_users_runs_stand_beside_the_reference(own):
    output, result = own
    assert result.returncode == 1 and "1 runs lack a result" in result.stderr
    claims = json.loads((output / "claims.json").read_text())["claims"]
    assert "1 of 5 pairs lack a result" in next(claim["why"] for claim in claims if claim["claim"] == "table1_bn")
    text = (output / "report.html").read_text()
    assert "Your runs against the reference" in text and "1 runs lack a result" in text
    linked = [link for link in Page(text).links if link.startswith("../runs/")]
    assert len(linked) == 24 and all((output / link / "summary.json").exists() for link in linked)


def test_floors_of_the_experiments_whose_rows_are_read_count_too():
    with hydra_configs():
        quick = compose("train", ["+profile=quick", "profile.experiments=[family_contrast]"]).profile
    configs = configs_of(quick, quick.first_seed)
    run_tables = from_tables(configs, ROOT / "results" / "reference" / "quick")
    rows = run_tables.rows
    rows.loc[(rows["experiment"] == "conv_gain") & (rows["norm"] == "none"), "test/error"] += 30.0
    (result,) = results_of(run_tables, configs, quick)
    recurrent, conv = result.verdicts[0].outcomes
    assert conv.verdict == NOT_RESOLVED and "above its floor of 50 (test/error)" in conv.why
    assert "floor" not in recurrent.why


def test_runs_that_the_committed_rows_have_none_of_stand_alone(tmp_path):
    own = pd.DataFrame({"run_id": ["mine-0"], "experiment": ["mine"]})
    profile = OmegaConf.create({"name": "quick", "experiments": ["mine"]})
    assert reference_beside(RunTables(own, own, tmp_path, [], own), tmp_path / "out", profile) is None


def test_an_experiment_without_claims_is_reported_by_its_cells(tmp_path):
    """Of one seed, beside committed rows of the same profile that have nothing of it."""
    rows, curves = synthetic("quick", ("train_test",))
    with hydra_configs():
        cfg = compose("report", ["profile=quick", "profile.experiments=[train_test]", f"output={tmp_path / 'out'}"])
    configs = configs_of(cfg.profile, cfg.profile.first_seed)
    configs["train_test"].experiment.claims = []
    rows[rows["seed"] == rows["seed"].min()].to_csv(tmp_path / "runs.csv", index=False)
    curves.to_csv(tmp_path / "curves.csv", index=False)
    run_tables = from_tables(configs, tmp_path)
    results = results_of(run_tables, configs, cfg.profile)
    (tmp_path / "out").mkdir()
    write_report(cfg, tmp_path / "out", results, run_tables, reference=results)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "There is no claim to judge." in text and "against the reference" not in text
    assert "\n|  |" not in (tmp_path / "out" / "claims.md").read_text(), "a table without columns"
    cells = pd.read_csv(tmp_path / "out" / "cells.csv")
    assert len(cells) == 9 and set(cells["n"]) == {1}


def test_a_replication_is_judged_on_its_own_seeds_and_compared_claim_by_claim(tmp_path):
    rows, curves = synthetic("quick", ("invariance", "train_test"), first_seed=40)
    assert set(rows["seed"]) == {40, 41, 42, 43, 44}
    rows.to_csv(tmp_path / "runs.csv", index=False)
    curves.to_csv(tmp_path / "curves.csv", index=False)
    result = report("profile.first_seed=40", f"rows={tmp_path}", f"output={tmp_path / 'out'}")
    assert result.returncode == 0, result.stderr
    claims = json.loads((tmp_path / "out" / "claims.json").read_text())["claims"]
    judged = [claim for claim in claims if claim["experiment"] in ("invariance", "train_test")]
    assert all(outcome["pairs"] == 5 for claim in judged for outcome in claim["outcomes"])
    for page in ("claims.md", "report.html"):
        assert (
            "Not judged in this profile: At a constant rate a layer-normalised language model "
            in (tmp_path / "out" / page).read_text()
        )
    empirical = [claim for claim in judged if not claim["identity"]]
    for claim in empirical:
        (line,) = [line for line in result.stdout.splitlines() if f"│ {claim['claim']} " in line]
        assert line.split("│")[-2].strip() in ("yes", "no")
    (compared,) = [line for line in result.stdout.splitlines() if line.startswith("against the committed runs: ")]
    assert f"of {len(empirical)} empirical verdicts are the same" in compared and "reversed" in compared
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["first_seed"] == 40


def test_rows_of_another_profile_or_of_other_experiments_are_refused(tmp_path):
    rows = pd.read_csv(ROOT / "results" / "reference" / "quick" / "runs.csv", low_memory=False)
    (tmp_path / "rows").mkdir()
    rows[rows["experiment"] == "train_test"].to_csv(tmp_path / "rows" / "runs.csv", index=False)
    shutil.copy(ROOT / "results" / "reference" / "quick" / "curves.csv", tmp_path / "rows")
    for given, message in (
        ("profile=standard", "holds runs of profile quick; give profile=quick"),
        ("profile.experiments=[invariance]", "holds no run of invariance; name another folder"),
    ):
        result = report(given, f"rows={tmp_path / 'rows'}", f"output={tmp_path / 'out'}")
        assert result.returncode == 2 and message in result.stderr, result.stderr
        assert not (tmp_path / "out").exists()


def test_an_experiment_without_runs_of_its_own_is_reported_alone(tmp_path):
    rows = ROOT / "results" / "reference" / "quick"
    result = report("profile.experiments=[family_contrast]", f"rows={rows}", f"output={tmp_path / 'out'}")
    assert result.returncode == 0 and "is not resolved" not in result.stderr, result.stderr
    assert (tmp_path / "out" / "cells.csv").read_text() == "experiment\n"


def test_runs_of_another_profile_are_no_start_of_this_one(tmp_path):
    (tmp_path / "train_test-cnn-bn-noisy_digits-b2-lr0.1-s20-01234567").mkdir()
    configs = {"train_test": base("train_test", "standard")}
    assert from_folders(configs, "standard", str(tmp_path)) is None


def test_without_runs_the_committed_rows_are_read_and_that_is_printed(tmp_path, capsys):
    cfg = OmegaConf.create(
        {"rows": None, "known": None, "runs_dir": str(tmp_path), "profile": {"name": "quick", "first_seed": 20}}
    )
    found = find(cfg, {"train_test": base("train_test", "quick")})
    assert found.source.name == "quick" and len(found.rows) and not found.missing
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_command_ends_with_the_verdicts_and_the_page(made):
    output, printed = made
    assert printed.strip().endswith(f"report: {output / 'report.html'}")
    assert max(map(len, printed.splitlines()[:-1])) <= 120
    words = " ".join(re.sub(r"[│├└┌─┼┐┘┤┬┴]", " ", printed).split())
    for claim in json.loads((output / "claims.json").read_text())["claims"]:
        assert claim["verdict"] in words and claim["experiment"] in words


def test_a_claim_of_which_a_part_holds_is_mixed_on_the_page(made):
    output, _ = made
    claims = json.loads((output / "claims.json").read_text())["claims"]
    assert {claim["verdict"] for claim in claims if claim["claim"] == "gn_beats_its_ends"} == {"mixed"}
    text = (output / "report.html").read_text()
    card = text[text.index('id="groups-gn_beats_its_ends"') :]
    assert "<p>1 of 2 contrasts reproduced, 1 contradicted.</p>" in card[: card.index("</details>")]


def test_gradients_through_time_are_a_chart_of_the_experiment_that_asks_for_them(made):
    output, _ = made
    assert [path.name for path in (output / "figures").glob("*gradients*")] == ["recurrent_gain_gradients.svg"]
    drawn = (output / "figures" / "recurrent_gain_gradients.svg").read_text()
    for word in (
        "Gradients through time",
        "LSTM, at the start",
        "tanh RNN, after training",
        "steps before the last one",
    ):
        assert word in drawn, word
    assert "cosine" not in drawn and "NaN" not in drawn
    assert (output / "gradients.csv").read_text() == (output.parent / "gradients.csv").read_text()


def test_every_difference_names_runs_that_are_in_the_tables(made):
    output, _ = made
    found, rows = pd.read_csv(output / "differences.csv"), pd.read_csv(output / "runs.csv").set_index("run_id")
    used = found[found["n"] > 0]
    assert len(used) > 20
    for _, line in used.iterrows():
        runs = line["run_ids"].split()
        assert len(runs) >= line["n"] and set(runs) <= set(rows.index)
    one = used[(used["claim"] == "ln_helps_recurrent") & (used["where"] == "rnn, schedule constant")].iloc[0]
    metric = rows.loc[one["run_ids"].split()].pivot(index="seed", columns="norm", values="test/bpc")
    assert np.isclose(one["mean"], (metric["ln"] - metric["none"]).mean(), rtol=1e-5)


def test_a_diverged_run_is_counted_wherever_its_cell_is_shown(made):
    output, _ = made
    rows = pd.read_csv(output / "runs.csv")
    lost = rows[rows["status"] == "diverged"].iloc[0]
    cells = pd.read_csv(output / "cells.csv")
    own = cells[
        (cells["experiment"] == lost["experiment"])
        & (cells["model"] == lost["model"])
        & (cells["norm"] == lost["norm"])
    ]
    assert own["diverged"].sum() == 1 and own["n"].min() == 4 and cells["diverged"].sum() == 1
    about = pd.read_csv(output / "differences.csv")
    about = about[about["run_ids"].fillna("").str.contains(lost["run_id"])]
    assert len(about) and (about["diverged"] == 1).all() and (about["verdict"] == "not resolved").all()


def test_a_normaliser_without_the_axis_is_a_cell_and_a_level_like_the_others(made):
    output, _ = made
    cells = pd.read_csv(output / "cells.csv", keep_default_na=False)
    cells = cells[cells["experiment"] == "groups"]
    assert set(zip(cells["norm"], cells["groups"], strict=True)) >= {("ln", ""), ("in", ""), ("gn", "2"), ("gn", "16")}
    assert (cells["n"] == 5).all()
    drawn = (output / "figures" / "groups_groups.svg").read_text()
    assert all(vega.look(norm)[0] in drawn for norm in ("ln", "in", "gn"))
    rule = pd.read_csv(output / "differences.csv")
    assert (rule.loc[rule["claim"] == "gn_beats_its_ends", "n"] == 5).all()


def test_an_experiment_without_runs_is_reported_not_left_out(made):
    output, printed = made
    claims = json.loads((output / "claims.json").read_text())["claims"]
    lost = [claim for claim in claims if claim["experiment"] == "conv_gain"]
    assert lost and all(claim["verdict"] == "not resolved" and "conv_gain" in printed for claim in lost)
    assert f"{len(lost)} not run" in next(line for line in printed.splitlines() if "conv_gain" in line)
    assert "no run of this experiment yet" in (output / "report.html").read_text()
    for text in (printed, (output / "claims.md").read_text()):
        assert "No run yet of " in text and "claims wait for their runs" in " ".join(text.split())


def test_a_report_without_runs_is_refused_in_one_line(tmp_path):
    result = report(f"rows={tmp_path}", f"output={tmp_path / 'out'}")
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "has no runs.csv" in result.stderr and not (tmp_path / "out").exists()


def test_the_command_of_a_cell_makes_exactly_its_runs():
    axes = base("groups", "standard").experiment.axes
    whole = expand("groups", "standard", ["optim.lr=0.1", "device=cpu"])
    for wanted in ({"norm": "gn", "groups": "8"}, {"norm": "ln", "groups": ""}):
        wanted = {"model": "cnn", "batch_size": 128, **wanted}
        found = expand("groups", "standard", ["optim.lr=0.1", "device=cpu", *cell_overrides(wanted, axes)])
        assert found and [run_id(c) for c in found] == [run_id(c) for c in whole if cell(c) == wanted]


def test_own_runs_agree_with_the_reference_when_verdict_and_interval_do():
    experiment = Experiment(name="e", metric="test/loss", final_seeds=[0, 1, 2, 3, 4])
    experiment.claims = [
        Claim(id="c", statement="s", stated="p", kind="difference", a={"norm": "ln"}, b=[{"norm": "none"}], margin=0.01)
    ]

    def outcome(shift: float):
        noise = np.random.default_rng(0).normal(0, 0.01, 10)
        rows = pd.DataFrame({"norm": ["none"] * 5 + ["ln"] * 5, "seed": [0, 1, 2, 3, 4] * 2, "status": "done"})
        rows["test/loss"] = noise + np.array([0.0] * 5 + [shift] * 5)
        no_curves = pd.DataFrame(columns=CURVE_COLUMNS)
        return judge(experiment, rows.assign(run_id=rows.index.astype(str)), no_curves)[0].outcomes[0]

    assert tables.agreement(outcome(-0.1), outcome(-0.1)) == "yes"
    assert tables.agreement(outcome(-0.1), outcome(-0.5)) == "same verdict, intervals apart"
    assert tables.agreement(outcome(-0.1), outcome(0.1)) == "no"


# --- charts -----------------------------------------------------------------------------------------------------------


def test_every_colour_has_the_contrast_of_graphics_with_the_page():
    """At least 3 with white (WCAG 2.1, 1.4.11)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    for norm, (colour, _) in [*STYLE.items(), ("other", OTHER)]:
        assert 1.05 / (luminance(colour) + 0.05) >= 3, norm


def test_a_normaliser_without_a_colour_is_drawn_all_the_same():
    assert norms_of(["mine", "ln", "none"]) == ["none", "ln", "mine"]
    assert vega.look("mine") not in [vega.look(norm) for norm in STYLE]


def test_drawings_state_unit_seeds_and_the_diverged(made):
    output, _ = made
    figures = {path.stem: path.read_text() for path in (output / "figures").glob("*.svg")}
    gain = figures["recurrent_gain_gain"]
    assert "bits per character" in gain and "5 seeds" in gain and "95 %" in gain and "1 diverged" in gain
    assert {
        "recurrent_gain_learning_step",
        "recurrent_gain_learning_examples",
    } <= set(figures)
    assert {"train_test_batch_size", "groups_groups", "invariance_exact", "summary"} <= set(figures)
    for name, svg in figures.items():
        assert "<path" in svg and "NaN" not in svg and "undefined" not in svg, name


def test_a_normaliser_has_one_colour_in_every_drawing(made):
    output, _ = made
    for norm, names in {
        "ln": ("recurrent_gain_learning_step", "train_test_batch_size"),  # a run of its diverged: no gain of it
        "bn": ("recurrent_gain_gain", "recurrent_gain_learning_step", "train_test_batch_size", "summary"),
    }.items():
        for name in names:
            assert vega.look(norm)[0] in (output / "figures" / f"{name}.svg").read_text(), (norm, name)


# --- the page ---------------------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """Ids, links, sources, and the specifications of the charts."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.loaded, self.charts, self.figures, self.claims = [], [], [], 0, {}, 0
        self._figure, self._script = None, False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs["href"]] if tag == "a" else []
        self.loaded += [attrs[name] for name in ("src", "data") if name in attrs]
        self.loaded += [attrs["href"]] if tag == "link" else []
        self.claims += "claim" in attrs.get("class", "").split()
        self.charts += "chart" in attrs.get("class", "").split()
        if tag == "figure" and "data-panels" in attrs:
            self._figure = attrs["id"], int(attrs["data-panels"])
        self._script = tag == "script" and attrs.get("type") == "application/json"

    def handle_data(self, text):
        if self._script and self._figure:
            self.figures[self._figure] = json.loads(text)

    def handle_endtag(self, tag):
        self._script = False


def test_the_page_is_whole_and_needs_no_network(made):
    output, _ = made
    text = (output / "report.html").read_text()
    page = Page(text)
    claims = json.loads((output / "claims.json").read_text())["claims"]
    assert page.claims == sum(map(tables.has_runs, claims)) > 10
    assert not page.loaded, "the page loads something"
    assert len(page.ids) == len(set(page.ids)), "an id is there twice"
    assert library() in text and "<script src" not in text and "@import" not in text
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, f"{link} leads nowhere"
        else:
            assert (output / link).exists(), f"{link} leads nowhere"


def test_every_chart_of_the_page_has_its_place_and_compiles(made):
    import vl_convert

    output, _ = made
    page = Page((output / "report.html").read_text())
    assert page.charts == sum(panels for _, panels in page.figures) > 15
    for (figure, panels), choices in page.figures.items():
        for specs in choices.values():
            assert len(specs) == panels, figure
            for spec in specs:
                compiled = vl_convert.vegalite_to_vega(spec, vl_version=vega.VERSION)
                assert compiled["marks"], figure


def test_the_page_draws_every_chart_in_a_browser_without_a_word(made, tmp_path):
    """A copy of the page that hovers, zooms, chooses every choice there is, and says what it found."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no Chromium on this machine (looked for {', '.join(BROWSERS)}); apt-get install chromium")
    output, _ = made
    text = (output / "report.html").read_text()
    visitor = """<script>
    (async () => {
      const until = async (done) => { while (!done()) await new Promise((next) => setTimeout(next, 20)); };
      const count = () => document.querySelectorAll(".chart svg.marks").length;
      if (count()) throw new Error("a chart is drawn before it is seen");
      for (const details of document.querySelectorAll("details")) details.open = true;
      for (const figure of document.querySelectorAll("figure.charts")) {
        figure.scrollIntoView();
        const boxes = figure.querySelectorAll(".chart").length;
        await until(() => figure.querySelectorAll(".chart svg.marks").length === boxes);
      }
      const marks = () => document.querySelectorAll(".marks .mark-symbol path, .marks .mark-rect path").length;
      const found = [count(), marks(), document.documentElement.scrollWidth];
      const box = document.querySelector("#figure-recurrent_gain_learning .chart"), view = views.get(box).view;
      const point = box.querySelector(".mark-symbol.role-mark path"), at = point.getBoundingClientRect();
      const where = { bubbles: true, clientX: at.x + at.width / 2, clientY: at.y + at.height / 2 };
      point.dispatchEvent(new PointerEvent("pointermove", where));
      await until(() => document.querySelector("#vg-tooltip-element.visible"));
      const tooltip = document.querySelector("#vg-tooltip-element").textContent;
      const domain = () => view.scale("x").domain().join();
      const whole = domain();
      point.dispatchEvent(new WheelEvent("wheel", { ...where, deltaY: -300, ctrlKey: true, cancelable: true }));
      await until(() => domain() !== whole);
      for (const input of document.querySelectorAll(".choice input")) {
        input.checked = true;
        await draw(input.closest("figure"), input.value);
        found.push(count());
      }
      document.title = "visited " + JSON.stringify([tooltip, ...found]);
    })();
    </script>"""
    copy = tmp_path / "visited.html"
    before, _, after = text.rpartition("</body>")
    copy.write_text(f"{before}{visitor}</body>{after}")
    phone = tmp_path / "phone.html"  # a frame, since a browser's window has a least width
    phone.write_text("""<iframe src="visited.html" style="width: 390px; height: 844px; border: 0"></iframe><script>
    const frame = document.querySelector("iframe");
    setInterval(() => { document.title = frame.contentDocument.title; }, 50);
    </script>""")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--allow-file-access-from-files"]
    flags += [
        "--virtual-time-budget=120000",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path}/user",
    ]
    result = subprocess.run(
        [browser, *flags, "--dump-dom", phone.as_uri()], capture_output=True, text=True, timeout=240
    )
    errors = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    assert not errors, errors
    title = re.search(r"<title>visited (\[.*?\])</title>", result.stdout)
    assert title, f"the page did not finish: {result.stdout[:300]} {result.stderr[-500:]}"
    tooltip, drawn, marks, width, *chosen = json.loads(title[1])
    page = Page(text)
    assert drawn == page.charts and set(chosen) == {page.charts}, "a chart is missing"
    assert "validation loss" in tooltip and "runs" in tooltip
    assert marks > 10 * page.charts, "charts without marks"
    assert width <= 390, "the page is wider than a phone"


@pytest.mark.parametrize("content", ["{", "[]", "\xff", '{"claims": [{}]}', '{"claims": 5}'])
def test_a_folder_beside_the_report_that_holds_none_is_left_out(content, tmp_path, capsys):
    (tmp_path / "quick_notes").mkdir()
    (tmp_path / "quick_notes" / "claims.json").write_bytes(content.encode("latin-1"))
    assert replication.beside(tmp_path / "quick", {}) == []
    assert "quick_notes is left out, it holds no report" in capsys.readouterr().err
