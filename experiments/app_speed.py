"""How long app.py takes to answer: opening a large image, its tiles, and each kind of edit.

    python -m experiments.app_speed                         # 8,000 x 8,000 px, 20,000 nuclei
    python -m experiments.app_speed --size 2000 --nuclei 1000

A drawn image is served as app.py serves it, by HTTP on this machine. Each time is that of a whole
request: sent, done, on disk, answered, read. Median, 95th percentile and the longest are printed,
and the median CPU time of server and client together, which other programs hardly change.
"""

import contextlib
import functools
import http.client
import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from data.synthetic import draw
from nuclei.app.files import find_files
from nuclei.app.guarding import Guard
from nuclei.app.model_in_use import ModelInUse
from nuclei.app.predictions import Prediction
from nuclei.app.routes import make_app
from nuclei.app.server import make_desk, make_server, open_socket
from nuclei.app.tiles import TILE_PX
from nuclei.cli import SHIPPED, command_line, positive, user_errors_in_one_line
from nuclei.images.writing import write_png
from nuclei.model_file import find_model
from nuclei.written import recording

PATCH_PX = 500  # side of the drawn part that is repeated
SEED = 5


def draw_large(size_px: int, num_nuclei: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (size, size, 3) uint8 of repeated tissue, and its labels int32."""
    num = -(-size_px // PATCH_PX)
    image, labels = draw("tissue", PATCH_PX, PATCH_PX, -(-num_nuclei // num**2), seed=SEED)
    num_drawn = int(labels.max())
    large = np.zeros((num * PATCH_PX, num * PATCH_PX), np.int32)
    for row in range(num):
        for column in range(num):
            place = (slice(row * PATCH_PX, (row + 1) * PATCH_PX), slice(column * PATCH_PX, None))
            first = (row * num + column) * num_drawn
            part = np.where(labels > 0, labels + first, 0)
            large[place][:, :PATCH_PX] = part
    picture = np.tile(image, (num, num, 1))
    return picture[:size_px, :size_px], large[:size_px, :size_px]


class Client:
    """Sends requests to the server and notes how long each kind takes: wall and CPU, in ms.

    Args:
        address: of the page, as the server prints it.
    """

    def __init__(self, address: str) -> None:
        host, rest = address.removeprefix("http://").split("/", 1)
        self.connection = http.client.HTTPConnection(host)
        self.headers = {"Origin": f"http://{host}", "X-Nuclei": "1"}
        self.times = defaultdict(list)
        self.connection.request("GET", f"/{rest}")
        response = self.connection.getresponse()
        response.read()
        self.headers["Cookie"] = response.getheader("Set-Cookie").split(";")[0]

    def ask(self, kind: str, path: str, body: dict | None = None) -> bytes:
        """The content of one answer. Raises: ValueError, where it is an error."""
        started, cpu_started = time.perf_counter(), time.process_time()
        method, content = ("POST", json.dumps(body)) if body is not None else ("GET", None)
        self.connection.request(method, path, content, self.headers)
        response = self.connection.getresponse()
        answer = response.read()
        seconds = time.perf_counter() - started, time.process_time() - cpu_started
        self.times[kind].append([1000 * value for value in seconds])
        if response.status != 200:
            raise ValueError(f"{kind}: {response.status} {answer[:200]}")
        return answer

    def describe(self) -> str:
        """A table of the times."""
        lines = ["| request | n | median, ms | 95 % | longest | CPU, ms |", "| --- " * 6 + "|"]
        for kind, times in self.times.items():
            wall, cpu = np.array(times).T
            cells = " | ".join(f"{value:,.0f}" for value in np.percentile(wall, (50, 95, 100)))
            lines.append(f"| {kind} | {len(times)} | {cells} | {np.median(cpu):,.1f} |")
        return "\n".join(lines)


def edits_of(nucleus: dict) -> list[dict]:
    """One edit of each kind that needs no network, with what takes it back."""
    index, (left, top, right, bottom) = nucleus["id"], nucleus["box"]
    middle = (top + bottom) / 2
    return [
        {"kind": "grow", "ids": [index], "by": 2},
        {"kind": "shrink", "ids": [index]},
        {"kind": "brush", "id": index, "radius": 4, "stroke": [left, middle, right + 5, middle]},
        {"kind": "split", "id": index, "stroke": [left - 3, middle, right + 8, middle]},
        {"kind": "delete", "ids": [index]},
        {"kind": "undo"},
        {"kind": "undo"},
        {"kind": "redo"},
    ]


def measure(client: Client, key: str, num_columns: int, repeats: int) -> None:
    """Open the image, look at some tiles, and edit some nuclei."""
    base = f"/api/images/{key}"
    client.ask("first tile (the image is read)", f"{base}/tiles/0/0/0.jpg")
    for number in range(repeats):
        place = f"{number % num_columns}/{number // num_columns % num_columns}"
        client.ask("another tile", f"{base}/tiles/0/{place}.jpg")
    answer = json.loads(client.ask("first list of nuclei", f"{base}/nuclei"))
    client.ask("list of nuclei again", f"{base}/nuclei")
    nuclei, revision = answer["nuclei"], 0
    chosen = np.random.default_rng(SEED).choice(len(nuclei), repeats, replace=False)
    for nucleus in (nuclei[place] for place in chosen):
        for edit in edits_of(nucleus):
            body = edit | {"base": revision}
            try:
                content = client.ask(edit["kind"], f"{base}/edits", body)
            except ValueError:  # such as no room to grow
                client.times[edit["kind"]].pop()
            else:
                revision = json.loads(content)["revision"]
    client.ask("accept", f"{base}/accept", {"accepted": True})


@user_errors_in_one_line
def main(argv=None):
    """Measure and print the table. Returns: the exit status."""
    parser = command_line(__doc__)
    add = functools.partial(parser.add_argument, type=positive, metavar="N")
    add("--size", default=8000, help="side of the image in px (default %(default)s)")
    add("--nuclei", default=20_000, help="number of nuclei (default %(default)s)")
    add("--repeats", default=50, help="nuclei that are edited (default %(default)s)")
    args = parser.parse_args(argv)
    image, labels = draw_large(args.size, args.nuclei)
    with tempfile.TemporaryDirectory() as folder, recording(Path(folder) / "corrected"):
        write_png(Path(folder) / "a.png", image)
        models = ModelInUse(find_model(SHIPPED), print)
        desk = make_desk(find_files(folder), models, print)
        workspace = desk.workspace
        entry = next(iter(workspace.entries.values()))
        facts = (int(labels.max()), 0.1, False, 1.0, [0.0, 255.0], None, [0.9] * labels.max())
        workspace.put_prediction(entry, labels, Prediction(models.made_by, *labels.shape, *facts))
        listener = open_socket(None)
        guard = Guard(make_app(desk), listener.getsockname()[1], lambda line: None)
        server = make_server(guard)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            client = Client(guard.address())
            with contextlib.closing(client.connection):
                measure(client, entry.key, -(-args.size // TILE_PX), args.repeats)
        finally:
            server.should_exit = True
            thread.join()
        print(f"{args.size:,} x {args.size:,} px, {labels.max():,} nuclei\n")
        print(client.describe())
    return 0


if __name__ == "__main__":
    sys.exit(main())
