"""Every file of configs/ composes, the identity of a run, and refusals in one line."""

import itertools
import json
import pickle
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from experiments.cli.compose import SweepLoader
from experiments.cli.hydra_private import BasicSweeper, ConfigLoaderImpl
from experiments.config.cell import cell, cell_key
from experiments.config.errors import ConfigError
from experiments.config.paths import CONFIGS, ROOT
from experiments.config.schema import settings
from experiments.judging.claims import check_cells, kind_of
from experiments.runs.identity import LONGEST_NAME, run_id, run_names
from experiments.runs.run import Run
from experiments.sweeps.grid import base, expand, jobs, run_columns, run_ids
from models.norms import NORMS
from tests.helpers.configs import composed

GROUPS = ("model", "norm", "data", "optim", "profile", "experiment")
CHOICES = {group: sorted(path.stem for path in (ROOT / "configs" / group).glob("*.yaml")) for group in GROUPS}
# (experiment, profile): one whose sizes depend on the profile has a file for each that it is in
EXPERIMENTS = [
    (path.stem, profile)
    for path in sorted((CONFIGS / "experiment").glob("*.yaml"))
    for profile in CHOICES["profile"]
    if "${profile}" not in path.read_text() or (path.with_suffix("") / f"{profile}.yaml").exists()
]
# what has no default has to be given
NEEDED = {choice: ["data.path=/any"] for choice in ("text_file", "hf_text", "image_folder", "image_file")}


@pytest.mark.parametrize("group, choice", [(group, choice) for group in GROUPS for choice in CHOICES[group]])
def test_every_choice_composes_and_resolves(group, choice):
    overrides = [f"{group}={choice}", *NEEDED.get(choice, [])]
    if group == "experiment":
        profile = next(profile for experiment, profile in EXPERIMENTS if experiment == choice)
        overrides += [f"profile={profile}", "optim.lr=0.1"]  # the tuned rate of the default cell need not exist
    OmegaConf.to_container(composed(*overrides), resolve=True, throw_on_missing=True)


def test_every_norm_of_the_table_has_its_yaml():
    assert set(CHOICES["norm"]) == set(NORMS)
    assert all(composed(f"norm={norm}").norm.name == norm for norm in NORMS)


def test_all_choices_compose_as_one_multirun():
    grid = [f"{group}={','.join(CHOICES[group])}" for group in ("model", "norm")]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(grid)
        jobs = list(itertools.chain.from_iterable(BasicSweeper.split_arguments(parsed, None)))
        names = {(cfg.model.name, cfg.norm.name) for cfg in (compose("train", job) for job in jobs)}
    assert names == set(itertools.product(CHOICES["model"], CHOICES["norm"]))


@pytest.mark.parametrize("experiment, profile", EXPERIMENTS)
def test_every_experiment_expands_to_its_grid_and_its_claims_name_cells_that_are_run(experiment, profile):
    rule = settings(base(experiment, profile).experiment)
    sources = rule.sources or [experiment]
    given = ["optim.lr=0.1"] if rule.tune_lr or rule.sources else []
    seeds = rule.final_seeds
    # One seed is composed; the others give the same cells.
    configs = [cfg for name in sources for cfg in expand(name, profile, [*given, f"seed={seeds[0]}"])]
    assert len({run_id_without_data(cfg) for cfg in configs}) == len(configs)
    assert len(seeds) >= 5
    assert {base(name, profile).hydra.sweeper.params.seed for name in sources} == {",".join(map(str, seeds))}
    assert not set(seeds) & set(rule.tune_seeds), "the seeds that decide must not have taken part in tuning"
    assert all(cfg.stage == "final" for cfg in configs)
    runs = [{**columns, "seed": seed} for columns in run_columns(configs) for seed in seeds]
    check_cells(rule, runs)
    for claim in (claim for claim in rule.claims if claim.id in rule.without and claim.clock != "seconds"):
        with pytest.raises(ConfigError):  # else a claim could be left out because of how it came out
            kind_of(claim, rule).check_cells(runs)


@pytest.mark.parametrize("experiment", ["invariance", "recurrent_batch_size"])
def test_the_names_of_a_grids_runs_are_those_of_its_configurations(experiment):
    """Names come from one composition for all seeds of a cell."""
    given = experiment, "quick", ["optim.lr=0.1"] if base(experiment, "quick").experiment.tune_lr else []
    assert run_ids(*given) == [run_id(cfg) for cfg in expand(*given)]


def test_every_experiment_of_a_profile_is_there_and_in_no_other():
    for profile in CHOICES["profile"]:
        listed = list(base("invariance", profile).profile.experiments)
        assert sorted(listed) == sorted(experiment for experiment, has in EXPERIMENTS if has == profile)


def test_a_profile_that_an_experiment_lacks_is_named(cli):
    result = cli("train", "-m", "experiment=placement", "profile=quick", "plan=true")
    assert result.returncode and not result.stdout
    assert (
        result.stderr.strip() == "error: experiment/placement=quick is unknown; allowed: full, standard; nearest: full"
    )


def test_a_rule_about_a_cell_that_is_not_run_is_refused_before_the_first_run(cli):
    for a, b, message in (
        ("{norm: ln}", "{norm: bn}", "{norm: ln} names 10 runs for 5 seeds, so more than one cell; add a column that "),
        (
            "{norm: ln, batch_size: 2}",
            "{norm: wm, batch_size: 2}",
            "no run has {norm: wm, batch_size: 2}; nearest: {norm: ",
        ),
    ):
        rule = f"{{id: c, statement: s, stated: here, kind: difference, a: {a}, b: [{b}], margin: 1.0}}"
        result = cli("train", "-m", "experiment=train_test", "plan=true", f"experiment.claims=[{rule}]")
        assert result.returncode and not result.stdout
        assert result.stderr.strip().startswith(f"error: claim c: {message}")
    result = cli("train", "-m", "experiment=train_test", "plan=true", "experiment.gradients=[{norm: rsm}]")
    assert result.returncode == 2 and "gradients {norm: rsm}: no run has it; name cells" in result.stderr


def test_a_metric_that_no_run_logs_is_refused_before_the_first_run(cli):
    """One that other tasks log: a CNN has no bits per character."""
    rule = "{id: c, statement: s, stated: here, kind: difference, a: {norm: ln}, b: [{norm: bn}], margin: 1.0, "
    claims = f"experiment.claims=[{rule}metric: test/bpc}}]"
    judged = cli("train", "-m", "experiment=conv_gain", "plan=true", claims, "experiment.without=[]")
    tuned = cli("tune", "experiment=conv_gain", "plan=true", "experiment.tune_metric=val/bpc")
    of_words = cli("tune", "experiment=recurrent_gain", "plan=true", "experiment.tune_metric=val/ppl")
    for result, message, allowed in (
        (judged, "claim c: no run of this grid logs test/bpc", "/error, "),
        (tuned, "tuning: no run of this grid logs val/bpc", "/error, "),
        (of_words, "tuning: no run of this grid logs val/ppl", "allowed: val/bpc, val/loss"),
    ):
        assert result.returncode and not result.stdout
        assert result.stderr.startswith(f"error: {message}") and result.stderr.count("\n") == 1
        assert allowed in result.stderr


@pytest.mark.parametrize(
    "given, message",
    [
        (
            "profile.first_seed=1",
            "experiment.final_seeds holds seeds that choose the learning rates (1, 2); give profile.",
        ),
        ("experiment.seeds=0", "experiment.seeds=0 leaves no run to judge; give 5 or more"),
    ],
)
def test_seeds_that_cannot_judge_are_refused_before_the_first_run(given, message, cli):
    result = cli("train", "-m", "experiment=conv_gain", "plan=true", given)
    assert result.returncode and not result.stdout
    assert result.stderr.strip().startswith(f"error: {message}")


def test_a_replication_on_a_profiles_own_seeds_is_refused():
    result = subprocess.run(["bash", "scripts/replicate.sh", "quick", "22"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr == (
        "error: first seed 22 is not beyond the profile's own; give 40 or more\n"
    )


@pytest.mark.parametrize("experiment, profile", EXPERIMENTS)
def test_a_claim_of_speed_has_twenty_evaluations_and_every_margin_its_source(experiment, profile):
    cfg = base(experiment, profile)
    for claim in cfg.experiment.claims:
        if claim.kind == "speed":
            assert cfg.trainer.evaluations >= 20
        if claim.kind not in ("exact", "share"):
            assert claim.margin_from, f"{claim.id} has a margin from nowhere"


def run_id_without_data(cfg) -> str:
    """The configuration that a run id hashes, where the data set itself need not be at hand."""
    return json.dumps(OmegaConf.to_container(cfg, resolve=True), sort_keys=True)


def test_an_argument_selects_from_an_experiments_grids():
    def cells(*arguments: str) -> set[str]:
        return {cell_key(cell(cfg)) for cfg in expand("groups", "standard", ["optim.lr=0.1", *arguments])}

    assert cells() == {
        f"cnn/{norm}" for norm in ("ln/b128", "in/b128", *(f"gn/b128/groups={g}" for g in (2, 4, 8, 16)))
    }
    assert cells("norm=ln") == {"cnn/ln/b128"}
    assert cells("norm.groups=4") == {"cnn/gn/b128/groups=4"}
    assert cells("norm=ln", "data.batch_size=64,32") == {"cnn/ln/b64", "cnn/ln/b32"}
    with pytest.raises(ConfigError, match=r"norm=lm is in no part of .* it has: gn, ln, in; nearest: ln"):
        cells("norm=gn,lm")


def test_true_and_false_select_from_a_grid_however_they_are_written():
    grids = [{"norm": "wn", "norm.data_init": "false,true"}, {"norm": "ln"}]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        for written in ("true", "True"):
            (job,) = jobs({}, grids, [f"norm.data_init={written}"], parser)
            assert [override.lower() for override in job] == ["norm=wn", "norm.data_init=true"]


def test_names_of_runs_where_a_value_is_made_from_the_seed():
    given = "conv_gain", "quick", ["norm=ln", "optim.lr=0.1", "data.noise_seed=${seed}", "seed=0,1"]
    assert run_ids(*given) == [run_id(cfg) for cfg in expand(*given)]


def test_the_loader_of_a_sweep_gives_what_hydras_does_and_composes_a_choice_of_groups_once(monkeypatch):
    choices = ["norm=ln", "norm=bn data=noisy_digits model=cnn"]
    values = ["seed=1 data.batch_size=16", "seed=2 optim.lr=0.3 trainer.measure=[train_test_gap]", "stage=tune"]
    jobs = [f"{chosen} {set}".split() for chosen in choices for set in values]
    of_hydra = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=3", "hydra.job.config.override_dirname.kv_sep=:"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        hydras = GlobalHydra.instance().config_loader()
        sweep = hydras.load_configuration("train", ["norm=ln,bn", *of_hydra], RunMode.MULTIRUN)
        wanted = [hydras.load_sweep_config(sweep, job) for job in jobs]
        composed, compose_one = [], ConfigLoaderImpl.load_sweep_config
        monkeypatch.setattr(
            ConfigLoaderImpl, "load_sweep_config", lambda *given: composed.append(given) or compose_one(*given)
        )
        loader = SweepLoader(hydras.get_search_path())
        found = [pickle.loads(pickle.dumps(loader)).load_sweep_config(sweep, job) for job in jobs]
    assert len(composed) == len(choices)
    for one, other in zip(found, wanted, strict=True):
        assert OmegaConf.to_yaml(one) == OmegaConf.to_yaml(other)
        assert OmegaConf.is_struct(one)


CHANGES_NUMBERS = ["norm=bn", "seed=1", "optim.lr=0.1", "data.seq_len=32", "model.hidden_size=64", "trainer.steps=7"]
CHANGES_NUMBERS += ["stage=tune", "threads=2", "norm.eps=1e-3", "model.placement=per_gate", "trainer.evaluations=3"]
LEAVES_NUMBERS = ["runs_dir=/elsewhere", "wandb.mode=disabled", "data.root=/d", "data.cache=/c", "wandb.project=p"]
LEAVES_NUMBERS += ["trainer.checkpoint_every=1", "plan=true"]


@pytest.mark.parametrize("override", CHANGES_NUMBERS)
def test_run_id_follows_what_changes_the_numbers(override):
    assert run_id(composed(override)) != run_id(composed())


@pytest.mark.parametrize("override", LEAVES_NUMBERS)
def test_run_id_ignores_what_does_not(override):
    assert run_id(composed("device=cpu", override)) == run_id(composed("device=cpu"))


SET = ["data=python_docs", "data.seq_len=100", "optim.clip=null", "optim.schedule=cosine", "model.dropout=0.25"]


@pytest.mark.parametrize(
    "overrides, name",
    [
        ([], "train-lstm-ln-python_docs-b32-lr0.003-s0"),
        (["data.batch_size=8", "seed=3", "optim.clip=1"], "train-lstm-ln-python_docs-b8-lr0.003-s3"),
        (SET, "train-lstm-ln-dropout0.25-seq_len100-schedulecosine-clipnull-python_docs-b32-lr0.003-s0"),
        (["model=mlp", "data=digits", "model.hidden_sizes=[64,32]", "norm=gn", "norm.groups=2", "stage=tune"],
         "train-mlp-gn-hidden_sizes64_32-groups2-stagetune-digits-b128-lr0.003-s0"),
        (["data=hf_text", f"data.path={ROOT}", "data.revision=a/b c", "data.val=0.1", "model.tied=true"],
         "train-lstm-ln-tiedtrue-val0.1-revisiona_b_c-hf_text-b32-lr0.003-s0"),
    ],
)  # fmt: skip
def test_outside_experiments_the_name_has_the_fields_that_were_set(overrides, name):
    assert run_id(composed("model=lstm", "norm=ln", "data=python_docs", *overrides)).rpartition("-")[0] == name


def test_a_name_stays_as_short_as_wandb_wants_it():
    fields = [f"{field}=1{number:04}" for number, field in enumerate(
        ("model.hidden_size", "model.num_layers", "model.embedding_size", "data.seq_len", "data.eval_batch_size",
         "data.blocks", "optim.warmup_steps", "optim.reference_batch", "trainer.steps", "trainer.evaluations")
    )]  # fmt: skip
    name = run_id(composed("model=lstm", "data=python_docs", *fields))
    assert len(name) <= LONGEST_NAME and "hidden_size10000" in name
    assert run_id(composed("model=lstm", "data=python_docs", *fields[:-1], "trainer.evaluations=3")) != name


def test_a_run_that_was_begun_under_its_name_without_fields_goes_on_there(tmp_path):
    cfg = composed("norm=ln", "data.seq_len=100", f"runs_dir={tmp_path}")
    named, plain = run_names(cfg)
    assert named != plain and named.rpartition("-")[2] == plain.rpartition("-")[2]
    assert Run.of(cfg).id == named
    (tmp_path / plain).mkdir()
    assert Run.of(cfg).id == plain and Run.of(cfg).folder.path == tmp_path / plain
    (tmp_path / named).mkdir()
    assert Run.of(cfg).id == named


def test_run_id_follows_the_content_of_a_text_of_ones_own_and_not_its_place(tmp_path):
    def id_of(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        return run_id(composed("data=text_file", f"data.path={tmp_path / name}"))

    first = id_of("one.txt", "abcdefgh" * 500)
    assert id_of("other.txt", "abcdefgh" * 500) == first
    assert id_of("one.txt", "abcdefgi" * 500) != first


def test_a_file_where_the_runs_should_go_is_refused(cli, tmp_path):
    (tmp_path / "runs").write_text("a file")
    result = cli("train", "norm=ln", "trainer.steps=2")
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "cannot be written" in result.stderr and (tmp_path / "runs").read_text() == "a file"


def test_the_command_line_starts_without_torch():
    code = "import sys, experiments.cli.command, data.settings, models.settings; print('torch' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"
