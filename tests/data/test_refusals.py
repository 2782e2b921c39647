"""A raw file that is damaged, missing or another one is refused before anything of it is read."""

import gzip
import hashlib
import lzma
import os
import pickle
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import data
from data import text
from data.settings import (
    BabiData,
    BinarizedMNIST,
    ImageData,
    TextData,
)
from tests.helpers.datasets import CONFIGS, composed, needs_files, refusal


@pytest.mark.scorecard("R9", "a raw file with one flipped bit is refused before anything reads it")
@needs_files
def test_one_flipped_byte_is_refused_before_anything_is_read(tmp_path, monkeypatch, record_property):
    published = Path(os.environ["LAYERNORM_DATA"], "ptb")
    (tmp_path / "ptb").mkdir()
    for file in ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"):
        (tmp_path / "ptb" / file).write_bytes((published / file).read_bytes())
    settings = TextData(name="ptb_char", unit="char", root=str(tmp_path))
    reads = []
    reader = text.ptb_char
    monkeypatch.setattr(text, "ptb_char", lambda *arguments: reads.append(1) or reader(*arguments))

    damaged = tmp_path / "ptb" / "ptb.test.txt"
    content = bytearray(damaged.read_bytes())
    content[1000] ^= 1
    damaged.write_bytes(content)
    message = refusal(settings)
    assert str(damaged) in message and "dd65dff31e70" in message
    assert hashlib.sha256(content).hexdigest()[:12] in message and "simple-examples" in message
    assert reads == []

    content[1000] ^= 1  # the control: undamaged, the same files are read
    damaged.write_bytes(content)
    data.load(settings)
    assert reads == [1]
    record_property("figure", "the file named, both checksums named, nothing read; undamaged it is read")


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.scorecard("R9", "a CIFAR-10 pickle with a payload is refused before it is unpickled")
def test_a_cifar_pickle_with_a_payload_is_refused_and_not_run(tmp_path, record_property):
    folder, marker = tmp_path / "cifar-10-batches-py", tmp_path / "payload ran"
    folder.mkdir()
    for file in data.SETS["cifar10"].files:
        (tmp_path / file).write_bytes(pickle.dumps(Payload(marker)))
    message = refusal(ImageData(name="cifar10", val=5000, root=str(tmp_path)))
    assert "data_batch_1" in message and "sha256" in message
    assert not marker.exists()
    pickle.loads((folder / "data_batch_1").read_bytes())  # the control: whoever unpickles it runs it
    assert marker.exists()
    record_property("figure", "refused by its checksum, not executed; unpickled by hand it executes")


def test_broken_packing_is_refused(tmp_path):
    (tmp_path / "binarized_mnist").mkdir()
    (tmp_path / "binarized_mnist" / "binarized_mnist_train.amat.xz").write_bytes(lzma.compress(b"0 1 " * 9999)[:-20])
    assert "no whole xz file" in refusal(BinarizedMNIST(root=str(tmp_path)))
    (tmp_path / "babi" / "en-10k").mkdir(parents=True)
    packed = tmp_path / "babi" / "en-10k" / "qa1_single-supporting-fact_train.txt.gz"
    whole = gzip.compress(b"1 Mary moved. " * 9999)
    for broken in (whole[:-20], b"1 Mary moved.", whole[:20] * 9):
        packed.write_bytes(broken)
        assert "no whole gz file" in refusal(BabiData(root=str(tmp_path)))


@pytest.mark.scorecard("R9", "a missing set: one line says what, where and how to get it")
@pytest.mark.parametrize("name", [name for name, row in data.SETS.items() if row.files])
def test_a_missing_set_says_what_where_and_how(name, tmp_path, monkeypatch, record_property):
    monkeypatch.delenv("LAYERNORM_DATA", raising=False)
    settings = OmegaConf.to_object(composed(CONFIGS / f"{name}.yaml"))
    message = refusal(settings)
    assert name in message and "data.root" in message and "LAYERNORM_DATA" in message and "http" in message
    settings.root = str(tmp_path / "nowhere")
    message = refusal(settings)
    assert name in message and settings.root in message and "http" in message
    record_property("figure", f"{name}: what, where and its address")
