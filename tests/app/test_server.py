"""The program as a user starts it: its address, a second browser, and kill -9 amid ten edits."""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from app_tools import random_request, reopened, write_images, write_settings_only
from loop_tools import run_beside
from PIL import Image

pytest.importorskip("uvicorn")
from nuclei.app.corrected import CorrectedImage
from nuclei.app.edit_log import EditLog
from nuclei.app.entry import key_of
from nuclei.app.server import open_socket
from nuclei.folder_lock import LOCK
from nuclei.model_file import PROJECT

KEY = key_of("a")
MESSAGES = re.compile(rb"data: (.*)\n\n")


def make_set(folder):
    """A set whose images have ground truth, so that no network is needed."""
    drawn = write_images(folder / "raw")
    (folder / "gt").mkdir()
    for stem, labels in drawn.items():
        Image.fromarray(labels.astype(np.uint16)).save(folder / "gt" / f"{stem}.png")
    return drawn


class Program:
    """app.py as a process of its own, and a browser that has opened its address."""

    def __init__(self, folder, *flags):
        model = write_settings_only(folder.parent / "model.h5")
        words = [sys.executable, "app.py", str(folder), "--model", str(model), "--no-browser"]
        self.process = subprocess.Popen(
            [*words, *flags], cwd=PROJECT, stdout=subprocess.PIPE, text=True
        )
        self.lines = []
        while not self.lines or not self.lines[-1].startswith("Open "):
            self.lines.append(self.process.stdout.readline())
            assert self.lines[-1], "".join(self.lines)
        self.port = int(re.search(r":(\d+)/", self.lines[-1])[1])
        address = self.lines[-1].split()[1]
        self.headers = {"Origin": f"http://127.0.0.1:{self.port}", "X-Nuclei": "1"}
        response = self.send("GET", address[address.index("/?") :])
        assert response.status == 303
        self.headers["Cookie"] = response.getheader("Set-Cookie").split(";")[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def send(self, method, path, body=None):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, self.headers)
            response = connection.getresponse()
            response.content = response.read()
            return response

    @contextlib.contextmanager
    def events(self):
        """The stream of events, as a response that is not read to its end."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
            connection.request("GET", "/api/events", headers=self.headers)
            with connection.getresponse() as response:
                yield response


def test_kill_9_in_the_middle_of_ten_edits_loses_none_that_was_answered(tmp_path):
    folder = tmp_path / "set"
    labels = make_set(folder)["a"]
    path = folder / "gt" / "a.edits.jsonl"
    twin = CorrectedImage(EditLog(tmp_path / "twin.jsonl"), start_of(labels))
    random, answered = np.random.default_rng(4), []
    with Program(folder) as program:
        kill = threading.Timer(0, program.process.kill)
        while len(answered) < 10:
            body = random_request(twin, random)
            if len(answered) == 6:  # somewhere between now and the tenth
                kill = threading.Timer(random.uniform(0, 0.1), program.process.kill)
                kill.start()
            try:
                response = program.send("POST", f"/api/images/{KEY}/edits", body)
            except (OSError, http.client.HTTPException):
                break
            if response.status == 200:
                answered.append(body)
                twin_does(twin, body)
        kill.join()
    assert len(answered) >= 6
    found = CorrectedImage(EditLog(path))
    assert found.revision in (len(answered), len(answered) + 1)  # one more may be on disk
    if found.revision > twin.revision:
        twin_does(twin, body)
    assert np.array_equal(found.canvas.labels, twin.canvas.labels)
    with Program(folder) as program:  # and it goes on from there
        state = json.loads(program.send("GET", "/api/state").content)
        image = next(it for it in state["images"] if it["id"] == KEY)
        assert image["revision"] == found.revision and image["undo"] == len(found.undoable)
        body = {"kind": "delete", "base": found.revision, "ids": [min(found.canvas.boxes)]}
        assert program.send("POST", f"/api/images/{KEY}/edits", body).status == 200
    assert reopened(found).revision == found.revision + 1


@pytest.mark.parametrize("is_set", (False, True))
def test_what_a_killed_server_leaves_of_an_upload_is_removed_by_the_next_one(tmp_path, is_set):
    folder = tmp_path / "images"
    source = folder / "raw" if is_set else folder
    make_set(folder if is_set else folder / "corrected")
    if not is_set:
        write_images(source)
    before = {path.name for path in source.iterdir()}
    connection = None
    with Program(folder) as program:
        connection = http.client.HTTPConnection("127.0.0.1", program.port)
        connection.putrequest("POST", "/api/images")
        headers = {**program.headers, "X-Name": "new.png", "Content-Length": "99999"}
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(b"a part of the file")
        end = time.monotonic() + 30
        while not list(source.glob(".nuclei-????????.png")):
            assert time.monotonic() < end
            time.sleep(0.01)
        program.process.kill()
        program.process.wait()
        connection.close()
    assert len(list(source.glob(".nuclei-????????.png"))) == 1
    home = folder if is_set else folder / "corrected"
    half_written = home / ".nuclei" / ".nuclei-01234567.json"  # of what the model found
    half_written.parent.mkdir(exist_ok=True)
    half_written.touch()
    with Program(folder):
        assert not half_written.exists()
        assert {path.name for path in source.iterdir()} - {LOCK} == before


def start_of(labels):
    from nuclei.app.corrected import Start
    from nuclei.app.edit_log import encode_labels

    return Start(labels, encode_labels(labels), "truth", accepted=True)


def twin_does(twin, body):
    from nuclei.app.actions import do_edit
    from nuclei.app.requests import read_edit

    do_edit(twin, read_edit(json.dumps(body).encode()), *[None] * 3)


def test_answers_leave_at_once():
    async def no_delay():
        """TCP_NODELAY of a connection that asyncio has accepted from the program's socket."""
        seen = asyncio.get_running_loop().create_future()

        class Peer(asyncio.Protocol):
            def connection_made(self, transport):
                connection = transport.get_extra_info("socket")
                seen.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                transport.close()

        listener = open_socket(None)
        server = await asyncio.get_running_loop().create_server(Peer, sock=listener)
        async with server:
            _, writer = await asyncio.open_connection(*listener.getsockname())
            value = await seen
            writer.close()
            await writer.wait_closed()
        return value

    assert run_beside(no_delay())  # else each answer waits 40 ms for the browser's


def test_all_flags_and_two_browsers_that_see_each_other(tmp_path):
    folder = tmp_path / "set"
    make_set(folder)
    listener = open_socket(None)
    port = listener.getsockname()[1]
    listener.close()
    with Program(folder, "--port", str(port), "--overwrite", "--quiet") as program:
        assert program.port == port and len(program.lines) == 1  # the address is no noise
        second = program.process.stdout.readline()
        assert second.startswith("Another browser: http://127.0.0.1:")
        with program.events() as stream:
            assert next_message(stream) == {"state": True}
            body = {"kind": "delete", "base": 0, "ids": [3]}
            assert program.send("POST", f"/api/images/{KEY}/edits", body).status == 200
            assert next_message(stream) == {"image": KEY, "revision": 1}
            accepted = program.send("POST", f"/api/images/{KEY}/accept", {"accepted": True})
            assert json.loads(accepted.content)["state"] == "accepted"  # --overwrite allows it
            assert next_message(stream) == {"state": True}
            again = subprocess.run(
                [sys.executable, "app.py", str(folder)], cwd=PROJECT, capture_output=True, text=True
            )
            assert again.returncode == 1 and "is being written to by another" in again.stderr
            program.process.send_signal(signal.SIGINT)  # while the stream is open
            assert program.process.wait(60) == 130


def next_message(stream):
    text = b""
    while not (found := MESSAGES.search(text)):
        text += stream.read1(1000) or time.sleep(0.01) or b""
    return json.loads(found[1])


def test_a_port_in_use_is_named_and_the_usual_one_gives_way():
    first, second = open_socket(None), open_socket(None)
    assert first.getsockname()[0] == "127.0.0.1"  # not the network
    port = first.getsockname()[1]
    assert second.getsockname()[1] != port
    with pytest.raises(ValueError, match=f"port {port} cannot be used .*leave out --port"):
        open_socket(port)
    first.close()
    second.close()
