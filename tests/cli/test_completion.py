"""The commands that scripts/setup.sh links, and what they answer a shell that completes their arguments."""

import os
import subprocess

import pytest

from tests.helpers.commands import ROOT

COMMAND = ROOT / "scripts" / "layernorm"
COMMANDS = (
    *(path.stem for path in (ROOT / "experiments").glob("*.py") if path.stem != "__init__"),
    *(path.parent.name for path in (ROOT / "experiments").glob("*/__main__.py")),
)
LINKS = sorted(f"layernorm-{command.replace('_', '-')}" for command in COMMANDS)


@pytest.fixture
def installed(tmp_path):
    """The environment of a shell that has the commands on its path, linked as scripts/setup.sh links them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in LINKS:
        (folder / name).symlink_to(COMMAND)
    return os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def bash(script: str, environment: dict, **options) -> str:
    return subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=300, **options
    ).stdout


def answer(environment: dict, line: str) -> list[str]:
    """Return what the command answers bash, by Hydra's protocol, for a line up to the cursor."""
    return bash("layernorm-train -sc query=bash", environment | {"COMP_LINE": line}).split()


def test_groups_choices_and_keys_are_completed(installed):
    everything = answer(installed, "layernorm-train ")
    assert {"model=", "norm=", "data=", "experiment=", "profile=", "trainer.", "seed=", "plan="} <= set(everything)
    assert not {"schema", "schema=", "tuned", "tuned/"} & set(everything), "groups that no user chooses"
    assert answer(installed, "layernorm-train nor") == ["norm.", "norm="]
    choices = [f"norm={norm}" for norm in ("bn", "gn", "in", "ln", "none", "rms", "wn")]
    assert answer(installed, "layernorm-train model=lstm norm=") == choices
    assert answer(installed, "layernorm-train experiment=recurrent_g") == ["experiment=recurrent_gain"]
    assert "hydra/launcher=joblib" in answer(installed, "layernorm-train -m hydra/launcher=")


def test_keys_are_those_of_the_choices_made_before(installed):
    assert "norm.groups=" in answer(installed, "layernorm-train norm=gn norm.")
    assert answer(installed, "layernorm-train model=cnn model.d") == ["model.depth="]
    assert answer(installed, "layernorm-train trainer.ev") == ["trainer.evaluations="]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("optim.schedule=", ["optim.schedule=constant", "optim.schedule=cosine", "optim.schedule=step"]),
        ("device=c", ["device=cpu", "device=cuda"]),
        ("wandb.mode=o", ["wandb.mode=offline", "wandb.mode=online"]),
        ("model.placement=p", ["model.placement=paper", "model.placement=per_gate"]),
        (
            "trainer.measure=",
            [
                *(
                    "trainer.measure=[invariance]",
                    "trainer.measure=[train_test_gap]",
                    "trainer.measure=[training_loss]",
                ),
                "trainer.measure=[transfer]",
            ],
        ),
        ("trainer.evaluations=", ["trainer.evaluations=10"]),
    ],
)
def test_a_field_is_completed_to_its_choices_or_else_to_its_value(typed, expected, installed):
    assert answer(installed, f"layernorm-train {typed}") == expected


def test_bash_itself_completes_once_told_to(installed):
    script = """eval "$(layernorm-train -sc install=bash)"
        COMP_LINE="layernorm-train model=g" COMP_WORDS=(layernorm-train model=g) COMP_CWORD=1
        hydra_bash_completion
        echo "${COMPREPLY[@]}" """
    assert bash(script, installed) == "model=gru\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_can_be_told(shell, installed):
    assert "layernorm-train" in bash(f"layernorm-train -sc install={shell}", installed)


def test_an_answer_imports_none_of_the_slow_packages(installed):
    slow = (
        "torch",
        "torchvision",
        "wandb",
        "datasets",
        "pandas",
        "sklearn",
        "rich",
        "joblib",
        "experiments.training.check",
    )
    environment = installed | {"COMP_LINE": "layernorm-train ", "PYTHONPROFILEIMPORTTIME": "1"}
    command = ["layernorm-train", "-sc", "query=bash"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "experiments.cli.completion" in imported and not imported & set(slow)


@pytest.mark.parametrize("name", LINKS)
def test_every_command_explains_itself_from_any_folder(name, installed, tmp_path):
    text = bash(f"{name} --help", installed, cwd=tmp_path)
    assert f"python -m experiments.{name.removeprefix('layernorm-').replace('-', '_')}" in text


def test_a_sweep_with_workers_runs_from_any_folder(installed, tmp_path):
    size = "model=mlp model.hidden_sizes=[8] data=digits trainer.steps=2 trainer.evaluations=1 wandb.mode=disabled"
    said = bash(f"layernorm-train -m {size} seed=0,1 hydra/launcher=joblib quiet=true", installed, cwd=tmp_path)
    assert said == "2 runs: 2 done, 0 skipped, 0 diverged, 0 failed\n"
    assert len(list((tmp_path / "results" / "runs").iterdir())) == 2


def test_every_command_is_linked_into_the_environment():
    """The loop of scripts/setup.sh, run in an environment that is otherwise complete."""
    setup = (ROOT / "scripts" / "setup.sh").read_text()
    loop = setup[setup.index("    for file in experiments/*.py") : setup.index("    done\n") + len("    done\n")]
    names = bash(f'ln() {{ echo "$@"; }}\n{loop}', dict(os.environ), cwd=ROOT).split()
    assert sorted(name.removeprefix(".venv/bin/") for name in names if name.startswith(".venv/bin/")) == LINKS
    assert names.count("../../scripts/layernorm") == len(LINKS) and os.access(COMMAND, os.X_OK)


def test_modules_of_the_working_directory_are_not_imported(installed, tmp_path):
    (tmp_path / "data.py").write_text("raise SystemExit('the wrong data')\n")
    assert "python -m experiments.train" in bash("layernorm-train --help", installed, cwd=tmp_path)
