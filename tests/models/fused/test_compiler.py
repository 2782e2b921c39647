"""The kernels are built at their first use: without a compiler, by two processes, in a damaged cache."""

import hashlib
import itertools
import platform
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
import torch

from models.recurrent import CELLS, compiler
from tests.helpers.fused import (
    assert_close,
    assert_falls_back,
    finished,
    identity_of_inputs,
    make,
    noise,
    python,
    run,
    states_of,
    twin,
)
from tests.helpers.processes import wait_for

LAYERS = """
    import sys, warnings
    import torch
    from models.recurrent import CELLS
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layers = [CELLS[cell](5, 9, norm="ln", bidirectional=True).double() for cell in ("lstm", "gru")]
        x = torch.randn(4, 3, 5, dtype=torch.float64)
        outputs = [layer(x)[0] for layer in layers for _ in range(2)]
        sum(y.square().sum() for y in outputs).backward()
    torch.save([*outputs, *(p.grad for layer in layers for p in layer.parameters())], sys.argv[1])
    print([(w.category.__name__, str(w.message)) for w in caught])
"""


def test_without_a_compiler_the_equations_run_with_one_notice(tmp_path):
    not_a_program = tmp_path / "c++"
    not_a_program.write_text("")
    not_a_program.chmod(0o755)
    environments = {
        "here": {},
        "none": {"CXX": "/nonexistent", "PATH": "", "LAYERNORM_CACHE": str(tmp_path / "none")},
        "fails": {"CXX": "/bin/false", "LAYERNORM_CACHE": str(tmp_path / "fails")},
        "no_program": {"CXX": str(not_a_program), "LAYERNORM_CACHE": str(tmp_path / "no_program")},
    }
    processes = {name: python(LAYERS, tmp_path / f"{name}.pt", **env) for name, env in environments.items()}
    printed = {name: finished(process) for name, process in processes.items()}
    expected = torch.load(tmp_path / "here.pt")
    assert printed.pop("here").strip() == "[]"
    for name, text in printed.items():
        notices = eval(text)
        assert [category for category, _ in notices] == ["RuntimeWarning"], notices
        assert "plain equations" in notices[0][1] and "\n" not in notices[0][1], notices
        for a, b in zip(torch.load(tmp_path / f"{name}.pt"), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert not list(tmp_path.glob("*/kernels/*.so")), "a failed build leaves nothing behind"


def test_fused_without_a_compiler_is_refused_in_one_line(monkeypatch, fused_calls):
    from models.recurrent import dispatch

    def no_library():
        raise compiler.CompilerError("there is no C++ compiler: install g++")

    monkeypatch.setattr(compiler, "library", no_library)
    dispatch.machine_obstacle.cache_clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert_falls_back(make("rnn", 8), noise(3, 2, 5), fused_calls, "no C.. compiler")
    finally:
        dispatch.machine_obstacle.cache_clear()


# Alone, without torch, and without optimisation: these are about files.
BUILD = """
    import importlib.util
    spec = importlib.util.spec_from_file_location("compiler", "models/recurrent/compiler.py")
    compiler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compiler)
    compiler.FLAGS = ("-O0", *compiler.FLAGS[1:])
    print(compiler.library().packed_columns(1, 8) > 0)
"""


@pytest.mark.scorecard("R18", "two processes build the kernels at once: one library, both have it")
def test_two_processes_may_build_at_once(tmp_path):
    """Each compiler waits until the other has started."""
    started = tmp_path / "started"
    started.mkdir()
    waiting = tmp_path / "waiting_compiler"
    waiting.write_text(
        f'#!/bin/sh\ntouch "{started}/$$"\n'
        f'for i in $(seq 200); do [ "$(ls "{started}" | wc -l)" -ge 2 ] && break; sleep 0.05; done\n'
        f'exec "{compiler.compiler()}" "$@"\n'
    )
    waiting.chmod(0o755)
    environment = {"CXX": str(waiting), "LAYERNORM_CACHE": str(tmp_path / "cache")}
    processes = [python(BUILD, **environment) for _ in range(2)]
    assert [finished(process).strip() for process in processes] == ["True", "True"]
    assert len(list(started.iterdir())) == 2, "both built"
    (left,) = (tmp_path / "cache" / "kernels").iterdir()
    assert left.suffix == ".so"
    assert finished(python(BUILD, **environment)).strip() == "True"
    assert len(list(started.iterdir())) == 2, "a third one finds what they built"


def test_a_cache_that_cannot_be_used(tmp_path):
    """Below a file: the process builds for itself."""
    file = tmp_path / "file"
    file.write_text("")
    before = set(Path("/tmp").iterdir())
    below = python(BUILD, LAYERNORM_CACHE=str(file / "cache"), TMPDIR=str(tmp_path))
    assert finished(below).strip() == "True"
    assert set(tmp_path.iterdir()) == {file}, "the temporary build is gone"
    assert not [path for path in set(Path("/tmp").iterdir()) - before if path.suffix == ".so"]


@pytest.fixture(scope="module")
def counting_compiler(tmp_path_factory):
    """A compiler that takes no time: it copies a library that the real one has built, and counts its calls."""
    folder = tmp_path_factory.mktemp("compiler")
    assert finished(python(BUILD, LAYERNORM_CACHE=str(folder))).strip() == "True"
    (library,) = (folder / "kernels").iterdir()
    script = folder / "c++"
    script.write_text(
        f'#!/bin/sh\necho x >> "{folder}/calls"\nwhile [ "$1" != -o ]; do shift; done\ncp "{library}" "$2"\n'
    )
    script.chmod(0o755)

    def calls() -> int:
        return len((folder / "calls").read_text().split()) if (folder / "calls").exists() else 0

    return script, calls


@pytest.fixture
def planted(tmp_path) -> tuple[Path, Path]:
    """A library that does harm when it is loaded, and the file that then is there."""
    marker, source = tmp_path / "marker", tmp_path / "planted.c"
    code = '#include <stdio.h>\n__attribute__((constructor)) static void harm(void) { fclose(fopen("%s", "w")); }\n'
    source.write_text(code % marker)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "planted.so", source], check=True)
    finished(python(f"import ctypes; ctypes.CDLL({str(tmp_path / 'planted.so')!r})"))
    assert marker.exists(), "the control: it does harm"
    marker.unlink()
    return tmp_path / "planted.so", marker


@pytest.mark.scorecard("R18", "a kernel library that is cut, another or anyone's is not loaded")
@pytest.mark.parametrize("damage", ["cut", "no library", "empty", "another", "of others", "in a folder of others"])
def test_a_library_that_is_not_what_was_built_is_not_loaded(damage, counting_compiler, planted, tmp_path):
    (script, calls), (harmful, marker), cache = counting_compiler, planted, tmp_path / "cache"
    environment = {"CXX": str(script), "LAYERNORM_CACHE": str(cache)}
    assert finished(python(BUILD, **environment)).strip() == "True"
    (binary,) = (cache / "kernels").iterdir()
    if damage in ("of others", "in a folder of others"):  # with the right checksum in its name
        key, content = binary.name.partition(".")[0], harmful.read_bytes()
        binary.unlink()
        binary = binary.with_name(f"{key}.{hashlib.sha256(content).hexdigest()}.so")
        binary.write_bytes(content)
        binary.chmod(0o777 if damage == "of others" else 0o700)
        binary.parent.chmod(0o700 if damage == "of others" else 0o1777)
    else:
        whole = binary.read_bytes()
        contents = {
            "cut": whole[: len(whole) // 3],
            "no library": b"text",
            "empty": b"",
            "another": harmful.read_bytes(),
        }
        binary.write_bytes(contents[damage])
    before, mended = calls(), damage != "in a folder of others"
    for number in (1, 2):
        process = python(BUILD, **environment)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and out.strip() == "True" and not marker.exists()
        assert err.count("others can write into") == (0 if mended else 1), err
        assert calls() == before + (1 if mended else number), "where it can be, it is built again in place"


@pytest.mark.parametrize("file", [path.name for path in sorted(compiler.SOURCES.iterdir())])
def test_every_change_of_a_source_or_flag_makes_another_binary(file, monkeypatch, tmp_path):
    path = compiler.compiler()
    keys = {compiler._key(path, compiler.NATIVE), compiler._key(path, "-march=other")}
    changed = shutil.copytree(compiler.SOURCES, tmp_path / "kernel")
    (changed / file).write_text((changed / file).read_text() + "\n")
    monkeypatch.setattr(compiler, "SOURCES", changed)
    assert len(keys | {compiler._key(path, compiler.NATIVE)}) == 3


def test_a_process_may_end_with_tensors_alive():
    source = """
        import torch
        from models.recurrent import LSTM, pool
        y, final = LSTM(3, 4, backend="fused")(torch.randn(5, 2, 3))
        z = y.sum()
        pool.held = LSTM(3, 4)(torch.randn(5, 2, 3))
        layer = LSTM(3, 4)
        layer(torch.randn(5, 2, 3))[0].sum().backward()
    """
    assert finished(python(source)) == ""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="flags of x86")
@pytest.mark.parametrize("flag", ["-march=haswell", "-march=x86-64"])
def test_other_instruction_sets(flag, kernels_for):
    """Vectors of 32 and 16 bytes, with division in place of the estimate; what older machines run."""
    if flag == "-march=haswell" and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this machine cannot run them")
    kernels_for(flag)
    for cell, H, norm in itertools.product(CELLS, (3, 21, 65), ("none", "ln", "rms", "bn")):
        layer = make(cell, H, norm, bidirectional=True)
        x, states = noise(3, 7, 5), states_of(layer, 7)
        expected = run(twin(layer, "reference"), x, states)
        assert_close(run(layer, x, states), expected, 1e-11)
        assert_close(run(layer.float(), x.float(), [state.float() for state in states]), expected, 1e-4)
    for cell, function in ("rnn", torch.tanh), ("gru", torch.sigmoid):
        x = torch.linspace(-80, 80, 24 * 100).view(1, -1, 24)
        y = identity_of_inputs(cell)(x, torch.ones(1, 100, 24) if cell == "gru" else None)[0]
        torch.testing.assert_close(y.double(), function(x.double()), rtol=4e-7, atol=0)


def test_what_a_killed_build_left_is_swept(tmp_path):
    slow, again = tmp_path / "slow_compiler", tmp_path / "again"
    slow.write_text(
        f'#!/bin/sh\nif [ -e "{again}" ]; then exec "{compiler.compiler()}" "$@"; fi\n'
        f'touch "{tmp_path}/started"\nexec sleep 30\n'
    )
    slow.chmod(0o755)
    environment = {"CXX": str(slow), "LAYERNORM_CACHE": str(tmp_path / "cache")}
    killed = python(BUILD, **environment)
    wait_for((tmp_path / "started").exists, killed)
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.glob("cache/kernels/*.so"))) == 1, "the control"
    again.touch()
    assert finished(python(BUILD, **environment)).strip() == "True"
    (library,) = tmp_path.glob("cache/kernels/*.so")
    assert not library.name.startswith("building-")


FEW_THREADS = """
    import os, resource
    import torch
    from models.recurrent import CELLS
    layer = CELLS["lstm"](64, 64, norm="ln", backend="fused")
    x = torch.randn(50, 64, 64)  # enough for several threads
    torch.set_num_threads(4)
    expected = layer(x)[0]
    layer(x)[0].sum().backward()  # PyTorch's own threads are there before the limit
    if os.geteuid() == 0:
        os.setuid(65534)  # the limit is not root's
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    y = layer(x)[0]
    y.sum().backward()
    print(torch.equal(y, expected))
"""


def test_where_the_system_gives_no_thread_one_does_the_work():
    assert finished(python(FEW_THREADS)).strip() == "True"
