"""The package that another project installs: what is in it, and that the documented lines run there."""

import email
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

import models
from tests.helpers.commands import ROOT
from tests.helpers.copies import copy_repository

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, since setuptools leaves a build folder beside the sources."""
    source = copy_repository(tmp_path_factory.mktemp("source"))
    pip("wheel", str(source), "--no-deps", "--no-build-isolation", "--wheel-dir", str(source / "wheels"))
    (built,) = (source / "wheels").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    pip("install", str(wheel), "--no-deps", "--target", str(folder))
    return folder


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def python_blocks(page: str) -> list[str]:
    tokens = MarkdownIt().parse((ROOT / page).read_text())
    return [token.content for token in tokens if token.type == "fence" and token.info == "python"]


def test_the_wheel_holds_every_file_of_models_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packaged = {name for name in names if ".dist-info/" not in name}
    sources = {
        path.relative_to(ROOT / "models").as_posix()
        for path in (ROOT / "models").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packaged == {f"layer_normalization/{source}" for source in sources}
    assert any(name.endswith(".cpp") for name in packaged)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.endswith("entry_points.txt") for name in names), "a command that cannot run outside a clone"


def test_the_metadata_names_the_page_of_the_layers_and_no_upper_bound_of_torch(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_string(archive.read(name).decode())
    assert metadata.get_payload().strip() == (ROOT / "docs" / "layers.md").read_text().strip()
    torch = [requirement for requirement in metadata.get_all("Requires-Dist") if requirement.startswith("torch>")]
    assert torch == ["torch>=2.11"]
    versions = [c for c in metadata.get_all("Classifier") if c.startswith("Programming Language :: Python :: 3.")]
    assert versions and metadata["Requires-Python"] == f">={versions[0].rpartition(' ')[2]}"


def test_the_documented_lines_run_in_a_project_with_models_and_data_of_its_own(installed, tmp_path):
    """Outside the repository; backend="fused" among the lines refuses where the kernel did not come along."""
    for module in ("models", "data"):
        (tmp_path / f"{module}.py").write_text("mine = True\n")
    pages = [block for block in python_blocks("README.md") if "layer_normalization" in block]
    script = "\n".join(
        [
            *python_blocks("docs/layers.md"),
            *pages,
            "import data, layer_normalization, models, sys",
            "assert data.mine and models.mine",
            "print(layer_normalization.__file__)",
            "print(*[name for name in ('hydra', 'wandb', 'experiments') if name in sys.modules])",
        ]
    )
    (tmp_path / "main.py").write_text(script)
    command, environment = [sys.executable, "main.py"], os.environ | {"PYTHONPATH": str(installed)}
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr
    *_, path, loaded = result.stdout.split("\n")[:-1]
    assert Path(path).is_relative_to(installed) and loaded == ""


def test_every_public_name_exists_and_is_documented():
    assert set(models.__all__) <= set(dir(models)) and all(getattr(models, name) for name in models.__all__)
    assert all(name in models.__doc__ for name in models.__all__)
    with pytest.raises(AttributeError, match="LTSM"):
        _ = models.LTSM


def test_an_installation_brings_what_models_imports_and_no_more():
    """Triton and safetensors are taken where they are there; all else is in the standard library or a dependency."""
    imported = {line.split()[1].split(".")[0] for line in import_lines() if not line.startswith("from .")}
    named = {requirement.partition(">")[0] for requirement in PROJECT["dependencies"]}
    assert imported - set(sys.stdlib_module_names) - {"triton", "safetensors"} == named


def import_lines() -> list[str]:
    lines = [line.strip() for path in (ROOT / "models").rglob("*.py") for line in path.read_text().splitlines()]
    return [line for line in lines if line.startswith(("import ", "from ")) and (line[0] == "i" or " import " in line)]


def test_the_version_is_quoted_right():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    released = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")]
    assert released[0].startswith(f"## [{PROJECT['version']}]")
