"""A download takes its name only when it is whole and verified."""

import hashlib
import http.server
import sys
import threading

import pytest
from images_tools import dsb2018, zipped

import import_data
from nuclei.datasets.download import PUBLIC_SHA256, PUBLIC_URL, DownloadBar, download


class Server(http.server.ThreadingHTTPServer):
    """A loopback server of one file, with the faults that the tests ask for."""

    content = b""
    cut_after = None  # bytes after which the connection ends
    announces_length = True
    status = 200
    location = ""  # to which the reader is sent on
    num_requests = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.num_requests += 1
        if server.location:
            self.send_response(302)
            self.send_header("Location", server.location)
            self.end_headers()
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        self.send_response(200)
        if server.announces_length:
            self.send_header("Content-Length", str(len(server.content)))
        self.end_headers()
        self.wfile.write(server.content[: server.cut_after])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("nuclei.datasets.download.SCHEMES", ("http://127.0.0.1",))
    dsb2018(tmp_path / "stage1", 2)
    server = Server(("127.0.0.1", 0), Handler)
    server.content = zipped(tmp_path / "stage1", tmp_path / "train.zip").read_bytes()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/some/stage1_train.zip?x=1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_command_downloads_verifies_and_imports(server, tmp_path, capsys):
    command = ["--download", "--url", server.url, "--out", str(tmp_path / "data")]
    command += ["--sha256", hashlib.sha256(server.content).hexdigest().upper()]
    assert import_data.main(command) == 0
    text = capsys.readouterr().out
    assert "every member sound" in text and "2 imported" in text and "Training can run" in text
    assert (tmp_path / "data" / "stage1_train.zip").read_bytes() == server.content
    assert import_data.main(command) == 0
    assert server.num_requests == 1  # there already: verified, not fetched
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == ["gt", "raw", "stage1_train.zip"]


def test_a_download_that_is_cut_ends_in_one_line_and_leaves_nothing(server, tmp_path, capsys):
    server.cut_after = 700
    command = ["--download", "--url", server.url, "--out", str(tmp_path / "data")]
    assert import_data.main(command) == 1
    message = capsys.readouterr().err
    assert server.url in message and "700 bytes" in message and "--from" in message
    assert "run the same command again" in message and message.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_download_of_another_content_is_refused_and_removed(server, tmp_path):
    with pytest.raises(ValueError, match="has the SHA-256 .*; expected 00"):
        download(server.url, tmp_path / "a.zip", sha256="00")
    whole = server.content
    server.content = whole[:900]
    with pytest.raises(ValueError, match="is no whole zip"):
        download(server.url, tmp_path / "a.zip")
    damaged = bytearray(whole)
    damaged[damaged.index(b"\x89PNG") + 60] ^= 255
    server.content = bytes(damaged)
    with pytest.raises(ValueError, match="has a damaged member|is no whole zip"):
        download(server.url, tmp_path / "a.zip")
    assert list(tmp_path.glob("*a*.zip")) == [tmp_path / "train.zip"]
    (tmp_path / "mine.zip").write_bytes(b"mine")
    with pytest.raises(ValueError, match="mine.zip is no whole zip"):
        download(server.url, tmp_path / "mine.zip")
    assert (tmp_path / "mine.zip").read_bytes() == b"mine"  # not ours to remove


def test_addresses_that_do_not_answer(server, tmp_path):
    server.status = 404
    with pytest.raises(OSError, match="404.*check the address.*--from"):
        download(server.url, tmp_path / "a.zip")
    server.status = 503
    with pytest.raises(OSError, match="503.*run the same command again"):
        download(server.url, tmp_path / "a.zip")
    assert server.num_requests == 2


def test_only_https_is_asked_and_no_answer_leads_elsewhere(server, tmp_path, monkeypatch):
    server.location = "http://localhost/a.zip"
    with pytest.raises(ValueError, match="127.0.0.1.* http://localhost/a.zip is no https address"):
        download(server.url, tmp_path / "a.zip")
    monkeypatch.undo()
    for url in ("http://127.0.0.1/a.zip", "file:///etc/passwd", "ftp://127.0.0.1/a.zip"):
        with pytest.raises(ValueError, match="no https address"):
            download(url, tmp_path / "a.zip")
    assert server.num_requests == 1


@pytest.mark.parametrize("announces_length", [True, False])
def test_a_download_has_limits_of_size_time_and_disk(
    server, tmp_path, monkeypatch, announces_length
):
    server.announces_length = announces_length
    room = "nuclei.datasets.download."
    with monkeypatch.context() as patch:
        patch.setattr(room + "MAX_BYTES", 100)
        patch.setattr(room + "CHUNK_BYTES", 64)
        with pytest.raises(ValueError, match="has more than 100 bytes.*--from"):
            download(server.url, tmp_path / "a.zip")
    with monkeypatch.context() as patch:
        patch.setattr(room + "MAX_SECONDS", -3600)
        with pytest.raises(ValueError, match="was not there after -1 hours"):
            download(server.url, tmp_path / "a.zip")
    if announces_length:
        monkeypatch.setattr("nuclei.full_disk.free_bytes", lambda folder: 9)
        monkeypatch.setattr(room + "CHUNK_BYTES", 64)
        with pytest.raises(OSError, match="has 9 bytes free, and the bytes of the download need"):
            download(server.url, tmp_path / "a.zip")
    assert not list(tmp_path.glob("*a.zip"))


def test_the_public_set_has_a_hash_and_another_address_none(monkeypatch, tmp_path):
    asked = []

    def note(url, path, sha256):
        asked.append((url, sha256))
        raise ValueError("enough")

    monkeypatch.setattr("import_data.download", note)
    out = ["--out", str(tmp_path / "data")]
    assert import_data.main(["--download", *out]) == 1
    assert import_data.main(["--download", "--url", "https://a.org/a.zip", *out]) == 1
    assert asked == [(PUBLIC_URL, PUBLIC_SHA256), ("https://a.org/a.zip", None)]


def test_a_length_that_is_not_announced_is_no_fault(server, tmp_path):
    server.announces_length = False
    assert download(server.url, tmp_path / "a.zip").read_bytes() == server.content


def test_the_bar_ends_at_the_announced_bytes(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = DownloadBar()
    bar.total = 1500
    for num_bytes in (1000, 1000):  # pooch counts whole chunks
        bar.update(num_bytes)
    bar.reset()
    bar.update(1500)
    bar.close()
    shown = capsys.readouterr().err
    assert "1,500 of 1,500 bytes" in shown and "2,000" not in shown and shown.count("\n") == 1
