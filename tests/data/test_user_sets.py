"""Text files of the user's and sets of the Hugging Face hub."""

import data
from data import torchvision_compat
from data.settings import (
    HubText,
    TextFile,
)
from experiments.training.check import unknown_words
from tests.helpers.datasets import SPLITS, refusal, spelled


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
    write_parquet(tmp_path / "set" / ".git" / "object.parquet", ["hidden"] * 40)  # as a clone of the set has
    assert data.fingerprint(settings) == before
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


def test_torchvision_imports_and_has_the_data_sets():
    assert {"MNIST", "CIFAR10"} <= set(dir(torchvision_compat.datasets()))


def test_words_of_a_csv_stay_words(tmp_path, no_network):
    """NA and its kin are what pandas takes for no value."""
    lines = ["NA", "null", "None", "nan", "N/A", "a word", ""] * 30
    (tmp_path / "own.csv").write_text("text\n" + "".join(f'"{line}"\n' for line in lines), encoding="utf-8")
    loaded = data.load(HubText(path=str(tmp_path / "own.csv"), unit="char", seq_len=8))
    assert "".join(spelled(loaded, split) for split in SPLITS) == "\n".join(lines)


def test_rows_of_no_text_and_byte_order_marks_are_refused(tmp_path, no_network):
    settings = HubText(path=str(tmp_path / "set"), unit="char", seq_len=8)
    write_parquet(tmp_path / "set" / "train.parquet", ["a line", None, None] * 99)
    assert "198 of 297 rows of" in refusal(settings) and "(null); fill or drop them" in refusal(settings)
    write_parquet(tmp_path / "set" / "train.parquet", ["\ufeffa line", "another"] * 99)
    assert "starts with a byte order mark; cut it off" in refusal(settings)


def test_the_reason_why_a_set_cannot_be_read_is_told(tmp_path, no_network):
    """`datasets` itself says that an error occurred while generating the dataset."""
    (tmp_path / "own.txt").write_bytes("café\n".encode("latin-1") * 99)
    assert "can't decode byte 0xe9" in refusal(HubText(path=str(tmp_path / "own.txt"), unit="char"))


def test_words_that_training_never_has_are_counted_and_told(tmp_path):
    """Those of a text that has <unk> in training are left alone: there it can be learnt."""
    file, words = tmp_path / "own.txt", [f"known{number % 9}" for number in range(400)]
    settings = TextFile(path=str(file), unit="word", val=0.25, test=0.25, seq_len=8)
    for first, line in (("known", "20.0% of val and 51.0% of test of data=mine are words"), ("<unk>", "")):
        words[0], words[210:230], words[310:360] = first, ["new"] * 20, ["newer"] * 50
        file.write_text(" ".join(words))
        shares = data.load(settings).manifest["unknown"]
        assert (shares["val"], shares["test"]) == (0.2, 0.51)  # the one <eos> too
        assert unknown_words("mine", shares and {"unknown": shares})[: len(line) or None] == line
