"""data.fetch against a server of this machine: whole files, cut ones, wrong ones, archives."""

import hashlib
import http.server
import io
import lzma
import subprocess
import sys
import tarfile
import threading
from dataclasses import dataclass, field

import pytest

from data import fetch
from data.files import DataError
from data.sets import SETS, DataSet
from data.settings import TextData
from tests.helpers.commands import ROOT, run

CONTENT = {"train.txt": b"a b c\n" * 300_000, "valid.txt": b"c b a\n", "test.txt": b"b\n"}


@dataclass
class Server:
    """Files by path. cut: bytes after which the connection is closed, once; asked: (path, Range) of every request."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: int | None = None
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def server():
    served = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range") if served.ranges else None
            served.asked.append((self.path, wanted))
            content = served.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if served.cut is not None:
                body, served.cut = body[: served.cut], None
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        served.address = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield served
        running.shutdown()


def entry(server: Server, address: str = "/{name}") -> DataSet:
    hashes = {f"words/{name}": hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    return DataSet(TextData, "", files=hashes, address=server.address + address, get="put them there by hand")


@pytest.fixture
def words(server, monkeypatch):
    """A published set of three files on the server, under the name `words`."""
    server.files = {f"/{name}": content for name, content in CONTENT.items()}
    monkeypatch.setitem(SETS, "words", entry(server))
    return server


def there(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "words").iterdir()}


def test_a_set_is_downloaded_and_the_second_time_only_looked_at(words, tmp_path, capsys):
    fetch.main(["words", "--root", str(tmp_path)])
    assert there(tmp_path) == CONTENT and len(words.asked) == 3
    (tmp_path / "words" / "test.txt").write_text("another edition")
    fetch.main(["words", "--root", str(tmp_path)])
    assert there(tmp_path) == CONTENT and [path for path, _ in words.asked[3:]] == ["/test.txt"]
    fetch.main(["words", "--root", str(tmp_path)])
    assert len(words.asked) == 4
    assert capsys.readouterr().out.splitlines()[-1] == f"words: all 3 files are in {tmp_path}"


@pytest.mark.parametrize("ranges", [True, False])
def test_what_was_cut_off_goes_on_where_it_stopped_if_the_server_can(words, tmp_path, ranges):
    words.cut, words.ranges = 1_200_000, ranges
    with pytest.raises(DataError, match="run the same command again, which goes on from there, or put them there"):
        fetch.main(["words", "--root", str(tmp_path)])
    assert set(there(tmp_path)) == {"train.txt.part"}
    done = len(there(tmp_path)["train.txt.part"])
    assert 0 < done < len(CONTENT["train.txt"])
    fetch.main(["words", "--root", str(tmp_path)])
    assert there(tmp_path) == CONTENT
    assert words.asked[1] == ("/train.txt", f"bytes={done}-" if ranges else None)


def test_another_edition_is_deleted_and_told(words, tmp_path):
    words.files["/valid.txt"] = b"c b b\n"
    with pytest.raises(DataError, match=r"valid\.txt gave another edition than the published one"):
        fetch.main(["words", "--root", str(tmp_path)])
    assert set(there(tmp_path)) == {"train.txt"}


def packed(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def test_an_archive_is_unpacked_and_only_the_set_is_taken_from_it(words, tmp_path, monkeypatch):
    monkeypatch.setitem(SETS, "words", entry(words, "/all.tar.gz"))
    inside = {f"words/{name}": content for name, content in CONTENT.items()}
    words.files = {"/all.tar.gz": packed({**inside, "../outside.txt": b"no"})}
    fetch.main(["words", "--root", str(tmp_path / "root")])
    assert there(tmp_path / "root") == CONTENT
    assert [path.name for path in tmp_path.rglob("*.part")] == [] and not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("content", [b"no archive", packed({"words/train.txt": CONTENT["train.txt"]})])
def test_another_archive_is_refused(content, words, tmp_path, monkeypatch):
    monkeypatch.setitem(SETS, "words", entry(words, "/all.tar.gz"))
    words.files = {"/all.tar.gz": content}
    with pytest.raises(DataError, match="is not the published archive"):
        fetch.main(["words", "--root", str(tmp_path)])
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnits"], "no data set is called 'mnits'; nearest: mnist"),
        (["ptb_char"], "ptb_char is no set to download; unpack simple-examples/data/ptb"),
        (["digits"], "nothing has to be downloaded: choose it with data=digits"),
        ([], "the following arguments are required: set; --help lists the sets"),
        (["words", "--ro\not"], "unrecognized arguments: --ro ot"),
        (["words"], "127.0.0.1:1 cannot be reached, or stopped (ConnectionError)"),
        (["gone"], "answers 404 Not Found"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, words, tmp_path, monkeypatch):
    nowhere = DataSet(TextData, "", files={"words/x": "0"}, address="http://127.0.0.1:1/{name}", get="bring it")
    monkeypatch.setitem(SETS, "words", nowhere)
    monkeypatch.setitem(SETS, "gone", entry(words, "/no/{name}"))
    with pytest.raises(DataError) as caught:
        fetch.main([*arguments, "--root", str(tmp_path)])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_ends_with_a_line_and_an_exit_code(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "data.fetch", "mnits", "--root", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 1 and result.stderr.startswith("data.fetch: no data set is called 'mnits'")
    assert len(result.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
    assert "mnist" in run("data.fetch", "--help").stdout


def test_a_packed_file_counts_as_the_published_one(tmp_path):
    """As a set is read, too."""
    (tmp_path / "digits.amat.xz").write_bytes(lzma.compress(b"0 1"))
    assert fetch._is_published(tmp_path / "digits.amat", hashlib.sha256(b"0 1").hexdigest())
    assert not fetch._is_published(tmp_path / "digits.amat", hashlib.sha256(b"1 0").hexdigest())
