"""The cache survives damage, kills and other processes."""

import hashlib
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

import data
from data.settings import (
    FractionText,
    PythonDocs,
)
from tests.helpers.datasets import CONFIGS, SPLITS, digits, forget, refusal


def entries(cache):
    return sorted(path for path in cache.iterdir() if path.is_dir())


def test_a_cached_set_needs_no_raw_file_and_no_second_preparation(tmp_path, monkeypatch):
    content = b"to be or not to be, that is the question\n" * 200
    hashes = {"tinyshakespeare/input.txt": hashlib.sha256(content).hexdigest()}
    row = data.SETS["tinyshakespeare"]
    monkeypatch.setitem(data.SETS, "tinyshakespeare", data.DataSet(**{**vars(row), "files": hashes}))
    file = tmp_path / "tinyshakespeare" / "input.txt"
    file.parent.mkdir()
    file.write_bytes(content)
    settings = FractionText(name="tinyshakespeare", unit="char", root=str(tmp_path))
    first = data.load(settings)
    file.unlink()
    forget()
    again = data.load(settings)
    assert all(torch.equal(first.tokens[split], again.tokens[split]) for split in SPLITS)
    assert (first.vocabulary, first.manifest) == (again.vocabulary, again.manifest)
    settings.val = 0.1  # another content, so the file is missed
    assert "input.txt is not in" in refusal(settings)


def test_one_load_serves_all_batch_sizes_and_one_entry_all_image_splits(own_cache):
    assert data.load(digits()) is data.load(digits(batch_size=4, eval_batch_size=7))
    assert data.load(digits()) is not data.load(digits(split_seed=3))
    assert data.load(digits()) is not data.load(digits(pool=2))
    assert len(entries(own_cache)) == 1
    assert data.load(PythonDocs(seq_len=10)).manifest["options"].keys().isdisjoint({"seq_len", "batch_size", "root"})
    data.load(PythonDocs(unit="word"))
    assert len(entries(own_cache)) == 3


def test_who_prepares_a_set_gets_what_the_next_process_reads(own_cache):
    """To the stride: a convolution over another layout is rounded otherwise, and a run would not be repeatable."""
    for settings in (digits(), PythonDocs()):
        first = data.load(settings)
        forget()
        again = data.load(settings)
        name = "images" if hasattr(first, "images") else "tokens"
        for split in SPLITS:
            a, b = getattr(first, name)[split], getattr(again, name)[split]
            assert torch.equal(a, b) and a.stride() == b.stride()


@pytest.mark.scorecard("R18", "damaged prepared data are prepared again, in place")
@pytest.mark.parametrize("damage", ["flip", "truncate", "no manifest", "bad manifest"])
def test_a_damaged_cache_is_prepared_again(own_cache, damage, capsys):
    first = data.load(PythonDocs())
    [entry] = entries(own_cache)
    arrays, manifest = entry / "arrays.npz", entry / "manifest.json"
    if damage == "flip":
        content = bytearray(arrays.read_bytes())
        content[len(content) // 2] ^= 1
        arrays.write_bytes(content)
    elif damage == "truncate":
        arrays.write_bytes(arrays.read_bytes()[:1000])
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text("{")
    forget()
    again = data.load(PythonDocs())
    assert all(torch.equal(first.tokens[split], again.tokens[split]) for split in SPLITS)
    assert capsys.readouterr().err.count("preparing it again\n") == (0 if damage == "no manifest" else 1)
    forget()
    data.load(PythonDocs())
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    message = refusal(PythonDocs(cache=str(tmp_path / "file" / "cache")))
    assert str(tmp_path / "file" / "cache") in message and "data.cache" in message


@pytest.mark.scorecard("R18", "prepared data that another user could have put there are not used")
@pytest.mark.parametrize("change", ["mode", "group", "owner", "link"])
def test_prepared_data_that_another_user_could_have_put_there_are_prepared_again(change, own_cache, capsys, tmp_path):
    """Their checksum lies beside them and proves nothing: here they are consistent, and false."""
    first = data.load(PythonDocs())
    [entry] = entries(own_cache)
    manifest, arrays = entry / "manifest.json", dict(np.load(entry / "arrays.npz"))
    tokens = {name: value * 0 for name, value in arrays.items() if name != "vocabulary"}
    np.savez(entry / "arrays.npz", **arrays | tokens)
    sha256 = hashlib.sha256((entry / "arrays.npz").read_bytes()).hexdigest()
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"arrays_sha256": sha256}))
    forget()
    assert not torch.equal(data.load(PythonDocs()).tokens["train"], first.tokens["train"]), "the control"
    if change in ("mode", "group"):
        entry.chmod(0o777 if change == "mode" else 0o775)
    elif change == "link":
        entry.rename(tmp_path / "elsewhere")
        entry.symlink_to(tmp_path / "elsewhere")
    else:
        try:
            os.chown(entry / "arrays.npz", 65534, 65534)
        except PermissionError:
            pytest.skip("needs the right to give a file away; the mode is tested without it")
    forget()
    if change == "link":  # it is not ours to remove
        assert "cannot be written" in refusal(PythonDocs())
        return
    assert torch.equal(data.load(PythonDocs()).tokens["train"], first.tokens["train"])
    assert "another user's, or others can change it" in capsys.readouterr().err


def test_what_a_killed_process_left_is_swept(own_cache):
    data.load(PythonDocs())
    [entry] = entries(own_cache)
    left = entry.rename(entry.with_name(f".{entry.name}.tmp"))
    (left / "arrays.npz").write_bytes(b"half")
    forget()
    data.load(PythonDocs())
    assert entries(own_cache) == [entry]


@pytest.mark.scorecard("R18", "two processes prepare one data set at once: one entry, prepared once")
def test_two_processes_at_once_make_one_entry(own_cache):
    program = """
import hashlib, time, data
from data import text
from data.settings import PythonDocs
reader = text.python_docs
def slow(*arguments):
    print("prepared")
    time.sleep(1)
    return reader(*arguments)
text.python_docs = slow
print(hashlib.sha256(data.load(PythonDocs()).tokens["train"].numpy().tobytes()).hexdigest())
"""
    outputs = []

    def run():
        outputs.append(subprocess.check_output([sys.executable, "-c", program], text=True, cwd=CONFIGS.parent.parent))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = hashlib.sha256(data.load(PythonDocs()).tokens["train"].numpy().tobytes()).hexdigest()
    assert sorted(line for output in outputs for line in output.split()) == sorted([alone, alone, "prepared"])
    assert len(entries(own_cache)) == 1
