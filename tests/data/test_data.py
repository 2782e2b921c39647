"""Data: published counts, disjoint splits, proof before reading, a cache that survives damage and company."""

import gzip
import hashlib
import json
import logging
import lzma
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import data
from data import text, torchvision_compat
from data.settings import (
    SCHEMAS,
    BinarizedMNIST,
    FractionText,
    HubText,
    ImageData,
    NoisyDigits,
    PythonDocs,
    SplitImages,
    TextData,
    TextFile,
)

CONFIGS = Path(__file__).parents[2] / "configs" / "data"
SPLITS = ("train", "val", "test")

needs_files = pytest.mark.skipif(not os.environ.get("LAYERNORM_DATA"), reason="LAYERNORM_DATA names no data folder")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache folder for each test, and nothing left in memory from another test."""
    monkeypatch.setenv("LAYERNORM_CACHE", str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache"
    forget()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # pytest keeps its folders; this one grows to 200 MB


def forget():
    data.loading._load.cache_clear()


def digits(**changed):
    return SplitImages(**{"name": "digits", "val": 300, "test": 300, **changed})


def refusal(settings):
    """The message of the DataError that loading raises: always one line."""
    with pytest.raises(data.DataError) as caught:
        data.load(settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def spelled(loaded, split):
    return "".join(loaded.vocabulary[index] for index in loaded.tokens[split].tolist())


# -- Published counts --------------------------------------------------------------------------------------------------

PUBLISHED = [
    (TextData(name="ptb_char", unit="char"), (5017482, 393042, 442423), 50),
    (TextData(name="ptb_word", unit="word"), (929589, 73760, 82430), 10000),
    (TextData(name="wikitext2", unit="word"), (2088628, 217646, 245569), 33278),
    (FractionText(name="tinyshakespeare", unit="char"), (1003854, 55770, 55770), 65),
]


@needs_files
@pytest.mark.parametrize(("settings", "counts", "symbols"), PUBLISHED, ids=lambda value: getattr(value, "name", ""))
def test_text_has_the_published_counts(settings, counts, symbols):
    loaded = data.load(settings)
    assert tuple(len(loaded.tokens[split]) for split in SPLITS) == counts
    assert len(loaded.vocabulary) == len(set(loaded.vocabulary)) == symbols
    assert all(loaded.tokens[split].dtype == torch.int64 for split in SPLITS)
    assert len(loaded.tokens["train"].unique()) == symbols
    assert json.loads(json.dumps(loaded.manifest))["counts"] == dict(zip(SPLITS, counts, strict=True))


@needs_files
def test_text_is_spelled_as_published():
    char, word = (data.load(settings) for settings, *_ in PUBLISHED[:2])
    assert spelled(char, "train").startswith("aer_banknote_berlitz_")
    assert char.tokens["test"].bincount()[char.vocabulary.index("\n")] == 3761
    assert [word.vocabulary[index] for index in word.tokens["val"][:3]] == ["consumers", "may", "want"]
    assert spelled(data.load(PUBLISHED[3][0]), "train").startswith("First Citizen:\nBefore we proceed")


@needs_files
def test_binarized_mnist_rows():
    loaded = data.load(BinarizedMNIST())
    rows = {split: tokens.view(-1, loaded.row_length) for split, tokens in loaded.tokens.items()}
    assert {split: tuple(row.shape) for split, row in rows.items()} == {
        "train": (50000, 785),
        "val": (10000, 785),
        "test": (10000, 785),
    }
    assert all((row[:, 0] == loaded.vocabulary.index("<start>")).all() for row in rows.values())
    assert all(row[:, 1:].max() == 1 for row in rows.values())
    # The official text itself, read the slow way.
    with lzma.open(Path(os.environ["LAYERNORM_DATA"], "binarized_mnist/binarized_mnist_test.amat.xz"), "rt") as lines:
        first = [int(pixel) for pixel in next(lines).split()]
    assert rows["test"][0, 1:].tolist() == first


@needs_files
@pytest.mark.parametrize(
    ("name", "counts", "shape", "per_class_in_test"),
    [("mnist", (55000, 5000, 10000), (1, 28, 28), None), ("cifar10", (45000, 5000, 10000), (3, 32, 32), 1000)],
)
def test_images_have_the_published_counts(name, counts, shape, per_class_in_test):
    loaded = data.load(ImageData(name=name, val=5000))
    assert tuple(len(loaded.labels[split]) for split in SPLITS) == counts
    assert all(tuple(loaded.images[split].shape[1:]) == shape for split in SPLITS)
    assert set(loaded.labels["train"].tolist()) == set(range(loaded.num_classes))
    if per_class_in_test:
        assert loaded.labels["test"].bincount().tolist() == [per_class_in_test] * 10
    assert_standardised(loaded)


@needs_files
def test_pixels_are_those_of_the_files():
    published = Path(os.environ["LAYERNORM_DATA"])
    packed = (published / "MNIST/raw/t10k-images-idx3-ubyte.gz").read_bytes()
    digits = np.frombuffer(gzip.decompress(packed), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    assert torch.equal(pixels(data.load(ImageData(name="mnist", val=5000)), "test"), torch.tensor(digits))

    folder = published / "cifar-10-batches-py"
    batches = {
        file: pickle.loads((folder / file).read_bytes(), encoding="bytes")
        for file in ("test_batch", *(f"data_batch_{number}" for number in range(1, 6)))
    }
    cifar = data.load(ImageData(name="cifar10", val=5000, train_examples=1000))
    test = batches.pop("test_batch")
    assert torch.equal(pixels(cifar, "test"), torch.tensor(test[b"data"]).view(-1, 3, 32, 32))
    assert cifar.labels["test"].tolist() == test[b"labels"]
    label_of = {
        image.tobytes(): label
        for batch in batches.values()
        for image, label in zip(batch[b"data"], batch[b"labels"], strict=True)
    }
    drawn = [label_of[image.numpy().tobytes()] for image in pixels(cifar, "train")]
    assert len(drawn) == 1000 and cifar.labels["train"].tolist() == drawn


def pixels(loaded, split):
    """The images before standardisation."""
    mean, sd = (torch.tensor(loaded.manifest[key]).view(-1, 1, 1) for key in ("mean", "sd"))
    return (loaded.images[split] * sd + mean).round().to(torch.uint8)


# -- Splits ------------------------------------------------------------------------------------------------------------


def test_python_docs_needs_no_file_and_repeats_nothing(monkeypatch):
    monkeypatch.delenv("LAYERNORM_DATA", raising=False)
    loaded = data.load(PythonDocs())
    train = " ".join(spelled(loaded, "train").split())
    paragraphs = {split: re.split(r"\n\n+", spelled(loaded, split)) for split in ("val", "test")}
    long = [" ".join(paragraph.split()) for split in paragraphs for paragraph in paragraphs[split]]
    long = [paragraph for paragraph in long if len(paragraph) > 80]
    assert len(long) > 100
    assert [paragraph for paragraph in long if paragraph in train] == []
    assert all(ord(character) < 128 for character in loaded.vocabulary)


def test_python_docs_blocks():
    whole = text._language_reference()
    loaded = data.load(PythonDocs(blocks=4, val_blocks=[1], test_blocks=[3]))
    quarter = len(whole) / 4
    assert spelled(loaded, "val") == whole[int(quarter) : int(2 * quarter)]
    assert spelled(loaded, "test") == whole[int(3 * quarter) :]
    assert spelled(loaded, "train") == whole[: int(quarter)] + whole[int(2 * quarter) : int(3 * quarter)]
    assert loaded.manifest["sources"][0]["sha256"] == hashlib.sha256(whole.encode()).hexdigest()
    assert "val_blocks=[3]" in refusal(PythonDocs(val_blocks=[3], test_blocks=[3]))
    assert "test_blocks=[20]" in refusal(PythonDocs(test_blocks=[20]))


def rows_of(images):
    return {tuple(image.flatten().tolist()) for image in images}


def test_digits_split_is_disjoint_seeded_and_nested():
    loaded, smaller, other = (data.load(digits(**c)) for c in ({}, {"train_examples": 200}, {"split_seed": 1}))
    assert [len(loaded.labels[split]) for split in SPLITS] == [1197, 300, 300]
    assert_standardised(loaded)

    def raw(images, split):
        return rows_of(pixels(images, split))

    for one, two in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not raw(loaded, one) & raw(loaded, two)
    assert len(raw(smaller, "train")) == 200 and raw(smaller, "train") < raw(loaded, "train")
    assert raw(smaller, "test") == raw(loaded, "test") != raw(other, "test")
    assert "do not fit into 1797" in refusal(digits(val=1500))
    assert "train_examples=1198" in refusal(digits(train_examples=1198))


def test_noisy_digits():
    clean = data.load(NoisyDigits(noise=0, max_shift=0, contrast_low=1, contrast_high=1, copies=1, eval_copies=1))
    underlying = {split: rows_of(clean.images[split]) for split in SPLITS}
    assert [len(underlying[split]) for split in SPLITS] == [1000, 397, 400]
    assert not underlying["train"] & underlying["val"]
    assert not underlying["train"] & underlying["test"]
    assert not underlying["val"] & underlying["test"]

    noisy, fewer = data.load(NoisyDigits()), data.load(NoisyDigits(train_examples=100, copies=3))
    assert [len(noisy.labels[split]) for split in SPLITS] == [2000, 1985, 2000]
    assert noisy.images["test"].shape[1:] == (1, 12, 12)
    assert_standardised(noisy)
    # What is set for training does not touch the test images (up to the standardisation, which is train's).
    assert len(fewer.labels["train"]) == 300
    unscaled = [
        images.images["test"] * images.manifest["sd"][0] + images.manifest["mean"][0] for images in (noisy, fewer)
    ]
    torch.testing.assert_close(*unscaled, atol=1e-5, rtol=0)
    # The canvas' corners hold noise alone, unless a digit was moved there by two pixels both ways.
    corner_sd = unscaled[0][:, 0, 0, 0].std().item()
    assert 0.2 < corner_sd < 0.3
    assert "max_shift=3" in refusal(NoisyDigits(max_shift=3))


def test_the_shift_reaches_every_side():
    moved = data.load(NoisyDigits(noise=0, contrast_low=1, contrast_high=1))
    ink = (moved.images["train"] > moved.images["train"].min()).any(0)[0]
    assert ink[0].any() and ink[-1].any() and ink[:, 0].any() and ink[:, -1].any()


def test_pooling_averages_squares_and_standardises_after():
    pooled = data.load(digits(pool=2))
    assert pooled.images["test"].shape == (300, 1, 4, 4)
    assert_standardised(pooled)
    mean, sd = pooled.manifest["mean"][0], pooled.manifest["sd"][0]
    intensities = pixels(data.load(digits()), "test").float()
    for row, column in ((0, 1), (3, 2)):
        square = intensities[:, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        got = pooled.images["test"][:, 0, row, column] * sd + mean
        torch.testing.assert_close(got, square.mean((1, 2)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("pool", "nearest"), [(3, 2), (0, 1), (-2, 1), (100, 8)])
def test_pooling_that_leaves_a_rest_is_refused(pool, nearest):
    message = refusal(digits(pool=pool))
    assert f"data.pool={pool}" in message and "8 x 8" in message
    assert message.endswith(f"allowed: 1, 2, 4, 8; nearest: {nearest}")


def assert_standardised(loaded):
    train = loaded.images["train"].double()
    torch.testing.assert_close(train.mean((0, 2, 3)), torch.zeros(train.shape[1]).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(train.std((0, 2, 3)), torch.ones(train.shape[1]).double(), atol=1e-3, rtol=0)


# -- Proof before reading ----------------------------------------------------------------------------------------------


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
    record_property("figure", "the file named, both checksums told, nothing read; undamaged it is read")


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


# -- Settings ----------------------------------------------------------------------------------------------------------


def composed(path):
    """What Hydra makes of a yaml: the schema it names, overridden by its own values; unknown keys and types raise."""
    values = OmegaConf.load(path)
    schema = re.fullmatch(r"/schema/data/(\w+)@_here_", values.pop("defaults")[0]).group(1)
    return OmegaConf.merge(OmegaConf.structured(SCHEMAS[schema]), values)


@pytest.mark.parametrize("name", data.SETS)
def test_every_set_has_its_yaml(name):
    path = CONFIGS / f"{name}.yaml"
    settings = composed(path)
    assert path.read_text().startswith("# ")
    assert settings.name == name
    assert OmegaConf.get_type(settings) is data.SETS[name].settings
    assert OmegaConf.missing_keys(settings) == ({"path"} if name in ("text_file", "hf_text") else set())


def test_settings_that_do_not_fit_are_refused():
    assert "'ptb_char'" in refusal(TextData(name="ptb_chars", unit="char"))
    assert "data=digits" in refusal(ImageData(name="digits", val=300))
    assert "word" in refusal(TextData(name="ptb_word", unit="char"))
    assert "together below 1" in refusal(TextFile(path=__file__, unit="char", val=0.5, test=0.5))


def test_fingerprint_needs_neither_torch_nor_files():
    program = """
import sys, data
from data.settings import *
hashes = [data.fingerprint(s) for s in (TextData(name="ptb_char", unit="char"), ImageData(name="cifar10", val=1),
          PythonDocs(), NoisyDigits(), HubText(path="some/set", unit="char"))]
assert len(set(hashes)) == 5, hashes
assert not {"torch", "sklearn", "torchvision", "datasets", "hydra", "omegaconf", "wandb"} & set(sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "LAYERNORM_DATA"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=CONFIGS.parent.parent)


def test_settings_import_nothing_heavy():
    program = "import sys, data.settings; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=CONFIGS.parent.parent)


# -- Cache -------------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("damage", ["flip", "truncate", "no manifest", "bad manifest"])
def test_a_damaged_cache_is_prepared_again(own_cache, damage, caplog):
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
    with caplog.at_level(logging.WARNING):
        again = data.load(PythonDocs())
    assert all(torch.equal(first.tokens[split], again.tokens[split]) for split in SPLITS)
    assert len(caplog.records) == (0 if damage == "no manifest" else 1)
    forget()
    caplog.clear()
    data.load(PythonDocs())
    assert caplog.records == []


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    message = refusal(PythonDocs(cache=str(tmp_path / "file" / "cache")))
    assert str(tmp_path / "file" / "cache") in message and "data.cache" in message


def test_what_a_killed_process_left_is_swept(own_cache):
    data.load(PythonDocs())
    [entry] = entries(own_cache)
    left = entry.rename(entry.with_name(f".{entry.name}.tmp"))
    (left / "arrays.npz").write_bytes(b"half")
    forget()
    data.load(PythonDocs())
    assert entries(own_cache) == [entry]


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


# -- A user's own text -------------------------------------------------------------------------------------------------


def test_text_file_by_character_and_by_word(tmp_path):
    file = tmp_path / "own.txt"
    lines = [f"naïve line {number % 10} \0\f" for number in range(100)]  # a form feed ends no line
    file.write_text("\n".join([*lines, "last words"]), encoding="utf-8")
    whole = file.read_bytes().decode()
    char = data.load(TextFile(path=str(file), unit="char", val=0.1, test=0.1))
    assert "".join(spelled(char, split) for split in SPLITS) == whole
    assert char.vocabulary == sorted(set(whole))
    assert len(char.tokens["test"]) == round(len(whole) * 0.1)

    word = data.load(TextFile(path=str(file), unit="word", val=0.1, test=0.1, seq_len=8))
    assert word.vocabulary == ["naïve", "line", "0", "\0", "<eos>", *"123456789", "<unk>"]
    assert sum(len(word.tokens[split]) for split in SPLITS) == 100 * (4 + 1) + 3
    assert [word.vocabulary[index] for index in word.tokens["test"][-3:]] == ["<unk>", "<unk>", "<eos>"]

    before = data.fingerprint(TextFile(path=str(file), unit="char"))
    file.write_text(whole + "!", encoding="utf-8")
    assert data.fingerprint(TextFile(path=str(file), unit="char")) != before


def test_text_file_refusals(tmp_path):
    file = tmp_path / "own.txt"
    assert str(file) in refusal(TextFile(path=str(file), unit="char"))
    file.write_bytes(b"caf\xe9 " * 1000)
    message = refusal(TextFile(path=str(file), unit="char"))
    assert str(file) in message and "not UTF-8" in message and "byte 3" in message
    for content in (b"", b"short\n" * 20):
        file.write_bytes(content)
        for unit in ("char", "word"):
            assert "data.seq_len=64" in refusal(TextFile(path=str(file), unit=unit))


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a name was looked up")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write_parquet(path, lines, column="text"):
    from pyarrow import parquet, table

    path.parent.mkdir(exist_ok=True)
    parquet.write_table(table({column: lines}), path)


def test_hf_text_from_local_parquet(tmp_path, no_network):
    lines = {split: [f"{split} line {number}" for number in range(40)] for split in ("train", "validation", "test")}
    for split in lines:
        write_parquet(tmp_path / "set" / f"{split}.parquet", lines[split])
    settings = HubText(path=str(tmp_path / "set"), unit="char")
    loaded = data.load(settings)
    for split, name in zip(SPLITS, lines, strict=True):
        assert spelled(loaded, split) == "\n".join(lines[name])

    before = data.fingerprint(settings)
    write_parquet(tmp_path / "set" / "test.parquet", ["other"] * 40)
    assert data.fingerprint(settings) != before
    assert spelled(data.load(settings), "test").startswith("other\nother")

    (tmp_path / "set" / "test.parquet").unlink()  # now cut off train's end
    assert spelled(data.load(HubText(path=str(tmp_path / "set"), unit="char", test=0.2)), "test").endswith(" line 39")
    one_file = data.load(HubText(path=str(tmp_path / "set" / "train.parquet"), unit="char", val=0.2, test=0.2))
    assert "".join(spelled(one_file, split) for split in SPLITS) == "\n".join(lines["train"])


def test_hf_text_refusals(tmp_path, monkeypatch):
    import datasets
    import huggingface_hub

    write_parquet(tmp_path / "set" / "train.parquet", ["a line"] * 99, column="content")
    assert "'content'" in refusal(HubText(path=str(tmp_path / "set"), unit="char"))
    write_parquet(tmp_path / "set" / "train.parquet", list(range(99)))
    assert "does not hold text" in refusal(HubText(path=str(tmp_path / "set"), unit="char"))
    (tmp_path / "set" / "train.parquet").write_bytes(b"no parquet")
    assert "cannot be read" in refusal(HubText(path=str(tmp_path / "set"), unit="char"))
    for holder in (datasets.config, huggingface_hub.constants):  # as without a network, but at once
        monkeypatch.setattr(holder, "HF_HUB_OFFLINE", True)
    assert "local folder of parquet" in refusal(HubText(path="some-one/some-text", unit="char"))


# -- Libraries ---------------------------------------------------------------------------------------------------------


def test_torchvision_imports_and_has_the_data_sets():
    assert {"MNIST", "CIFAR10"} <= set(dir(torchvision_compat.datasets()))
