"""The server as the page sees it: states, tiles, edits, conflicts, uploads, odd requests."""

import json

import cv2
import numpy as np
import pytest
from app_tools import drawn_labels, predict_by_truth, write_images, write_settings_only
from loop_tools import run_beside
from PIL import Image

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from nuclei.app.files import find_files
from nuclei.app.guarding import Guard
from nuclei.app.model_in_use import ModelInUse
from nuclei.app.routes import make_app
from nuclei.app.server import make_desk
from nuclei.images.labels import read_labels, without_gaps
from nuclei.written import recording

OWN = "http://127.0.0.1:8000"


class Served:
    """A folder with two images that is served, without the predicting thread."""

    def __init__(self, folder, predicted=True):
        self.folder = folder
        self.drawn = write_images(folder)
        self.open(predicted)

    def open(self, predicted=True):
        models = ModelInUse(write_settings_only(self.folder.parent / "model.h5"), print)
        self.desk = make_desk(find_files(self.folder), models, print)
        if predicted:
            predict_by_truth(self.desk.workspace, self.drawn)
        guard = Guard(make_app(self.desk), 8000, lambda line: None)
        headers = {"origin": OWN, "x-nuclei": "1"}
        self.client = TestClient(guard, base_url=OWN, headers=headers)
        self.client.get(guard.address(), follow_redirects=False)
        self.keys = {it["name"][0]: it["id"] for it in self.get("/api/state")["images"]}

    def get(self, path):
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path, status=200, **body):
        response = self.client.post(path, json=body)
        assert response.status_code == status, response.text
        return response.json()

    def edit(self, kind, status=200, image="a", base=0, **more):
        path = f"/api/images/{self.keys[image]}/edits"
        return self.post(path, status, kind=kind, base=base, **more)

    def image(self, name="a"):
        images = self.get("/api/state")["images"]
        return next(it for it in images if it["id"] == self.keys[name])


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "images"
    with recording(folder / "corrected"):
        yield Served(folder)


def test_the_state_lists_the_images(served):
    state = served.get("/api/state")
    assert state["folder"] == str(served.folder) and "geojson" in state["exports"]
    image = served.image()
    num = len(np.unique(served.drawn["a"])) - 1
    expected = {"name": "a.png", "width": 120, "height": 120, "state": "predicted", "nuclei": num}
    assert expected.items() <= image.items() and image["revision"] == image["undo"] == 0
    assert str(served.folder) not in json.dumps(state["images"])  # keys, no paths


def test_nuclei_have_boxes_and_outlines_of_their_pixels(served):
    found = served.get(f"/api/images/{served.keys['a']}/nuclei")["nuclei"]
    labels = served.drawn["a"]
    assert [it["id"] for it in found] == sorted(set(np.unique(labels)) - {0})
    for nucleus in found:
        mask = labels == nucleus["id"]
        x0, y0, x1, y1 = nucleus["box"]
        assert mask[y0:y1, x0:x1].sum() == mask.sum() and nucleus["confidence"] == 0.9
        area = sum(
            cv2.contourArea(np.array(ring, np.float32).reshape(-1, 2))
            for ring in [nucleus["outline"], *nucleus.get("more", [])]
        )
        assert area >= mask.sum()  # equal where the nucleus has no hole


def test_an_edit_answers_what_has_changed_and_the_next_run_knows_it(served):
    assert served.edit("delete", ids=[3])["removed"] == [3]
    delta = served.edit("grow", ids=[5], base=1)
    assert [it["id"] for it in delta["changed"]] == [5] and delta["removed"] == []
    assert delta["changed"][0]["confidence"] is None  # the network did not find it so
    assert (delta["revision"], delta["undo"], delta["redo"]) == (2, 2, 0)
    delta = served.edit("undo", base=2)
    assert (delta["undo"], delta["redo"]) == (1, 1)
    since = served.get(f"/api/images/{served.keys['a']}/nuclei?since=0")
    assert since["removed"] == [3] and since["revision"] == 3
    nuclei = served.get(f"/api/images/{served.keys['a']}/nuclei")
    served.open(predicted=False)
    assert served.get(f"/api/images/{served.keys['a']}/nuclei") == nuclei
    assert (served.image()["revision"], served.image()["redo"]) == (3, 1)


def test_two_browsers_are_told_of_each_other(served):
    served.edit("delete", ids=[3])
    answer = served.edit("grow", ids=[3], status=409)
    assert answer["delta"]["removed"] == [3] and "another window" in answer["message"]
    assert served.edit("delete", ids=[4])["removed"] == [3, 4]


def test_edits_that_were_made_in_another_folder_wait_for_it(served):
    """A page whose program has gone tries again, and another one may have its address."""
    path, body = f"/api/images/{served.keys['a']}/edits", {"kind": "delete", "base": 0, "ids": [3]}
    headers = {"X-Folder": "0" * 16}
    answer = served.client.post(path, json=body, headers=headers)
    assert answer.status_code == 503 and "Another folder" in answer.json()["message"]
    headers = {"X-Folder": served.get("/api/state")["folder_key"]}
    assert served.client.post(path, json=body, headers=headers).status_code == 200


def test_accept_writes_ground_truth_that_the_training_reads(served):
    served.edit("delete", ids=[3])
    path = f"/api/images/{served.keys['a']}/accept"
    assert served.post(path, accepted=True)["state"] == "accepted"
    home = served.folder / "corrected"
    expected = without_gaps(np.where(served.drawn["a"] == 3, 0, served.drawn["a"]))
    assert np.array_equal(read_labels(home / "gt" / "a.png"), expected)
    assert (home / "raw" / "a.png").read_bytes() == (served.folder / "a.png").read_bytes()
    assert served.edit("delete", ids=[4], base=1)["state"] == "predicted"
    assert "Changed since" in served.image()["note"]
    assert np.array_equal(read_labels(home / "gt" / "a.png"), expected)  # until it is accepted
    assert served.post(path, accepted=True)["note"] == ""
    assert served.post(path, accepted=False)["state"] == "predicted"
    assert not (home / "gt" / "a.png").exists()


def test_a_truth_of_the_user_is_not_replaced(tmp_path):
    folder = tmp_path / "images"
    with recording(folder / "corrected"):
        served = Served(folder)
        (folder / "corrected" / "gt").mkdir(exist_ok=True)
        mine = np.where(served.drawn["b"] > 0, 7, 0).astype(np.uint16)
        Image.fromarray(mine).save(folder / "corrected" / "gt" / "a.png")
        served.open()
        served.edit("delete", ids=[3])
        path = f"/api/images/{served.keys['a']}/accept"
        for accepted in (True, False):
            message = served.post(path, 422, accepted=accepted)["message"]
            assert "gt/a.png was not written by this program" in message
        assert np.array_equal(np.array(Image.open(folder / "corrected" / "gt" / "a.png")), mine)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "kind is missing"),
        ({"kind": "explode", "base": 0}, "there is no edit"),
        ({"kind": "delete", "base": 0}, "ids is missing"),
        ({"kind": "delete", "base": 0, "ids": []}, "ids is"),
        ({"kind": "delete", "base": 0, "ids": ["3"]}, "ids.0 is"),
        ({"kind": "delete", "base": 0, "ids": [10**12]}, "ids.0 is"),
        ({"kind": "delete", "base": -1, "ids": [3]}, "base is"),
        ({"kind": "delete", "base": True, "ids": [3]}, "base is"),
        ({"kind": "delete", "base": 0, "ids": [99999]}, "no longer there"),
        ({"kind": "split", "base": 0, "id": 3}, "a stroke or two points"),
        ({"kind": "split", "base": 0, "id": 3, "points": [1, 2]}, "two points"),
        ({"kind": "draw", "base": 0, "outline": [1, 2, 3]}, "has no y"),
        ({"kind": "draw", "base": 0, "outline": [1e300, 2, 3, 4, 5, 6]}, "outline.0 is"),
        ({"kind": "draw", "base": 0, "outline": [0, 0, 9000, 0, 9000, 9000]}, None),
        ({"kind": "brush", "base": 0, "stroke": [5, 5], "radius": 1e9}, "radius is"),
        ({"kind": "grow", "base": 0, "ids": [3], "by": 10**6}, "by is"),
        ({"kind": "undo", "base": 0}, "nothing to undo"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(served, body, message):
    response = served.client.post(f"/api/images/{served.keys['a']}/edits", json=body)
    if message is None:  # cut to the image
        assert response.status_code == 200
        return
    assert response.status_code == 422 and message in response.json()["message"]
    assert not (served.folder / "corrected" / "gt").exists()  # nothing was logged


@pytest.mark.parametrize("body", (b"", b"{", b"[" * 100_000, b'{"kind":"delete","base":NaN}'))
def test_a_body_that_is_no_json_is_refused(served, body):
    response = served.client.post(f"/api/images/{served.keys['a']}/edits", content=body)
    assert response.status_code == 422


@pytest.mark.parametrize(
    "path",
    (
        "/page/..%2f..%2f..%2fpyproject.toml",
        "/page/../routes.py",
        "/page/routes.py",
        "/page/%00",
        "/api/images/..%2f..%2fa.png/nuclei",
        "/api/images/a.png/tiles/0/0/0.jpg",
        "/api/images/%2e%2e/nuclei",
        "/api/nothing",
        "/etc/passwd",
    ),
)
def test_no_path_of_the_browser_reaches_the_disk(served, path):
    response = served.client.get(path)
    assert response.status_code == 404 and response.json()["message"]


def test_tiles_show_the_image_at_every_level(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    labels = drawn_labels(3, size=700, num=60, radius=20)
    Image.fromarray(np.where(labels, 180, 20).astype(np.uint8)).save(folder / "a.png")
    served = Served.__new__(Served)
    served.folder, served.drawn = folder, {"a": labels}
    with recording(folder / "corrected"):
        served.open()
        base = f"/api/images/{served.keys['a']}/tiles"
        shapes = {}
        for level, column, row in ((0, 0, 0), (0, 1, 1), (1, 0, 0)):
            code = served.client.get(f"{base}/{level}/{column}/{row}.jpg").content
            picture = cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_GRAYSCALE)
            shapes[level, column] = picture.shape
            is_nucleus = labels[512 * row :: 2**level, 512 * column :: 2**level][:512, :512] > 0
            shown = picture[: is_nucleus.shape[0], : is_nucleus.shape[1]]
            assert ((shown > 128) == is_nucleus).mean() > 0.95
        assert shapes == {(0, 0): (512, 512), (0, 1): (188, 188), (1, 0): (350, 350)}
        for place in ("0/2/0", "2/0/0", "9/0/0", "0/0/99999"):
            assert served.client.get(f"{base}/{place}.jpg").status_code == 404
        assert served.client.get(f"{base}/0/-1/0.jpg").status_code == 404


def test_an_added_image_is_listed_and_never_replaces_another(served):
    content = (served.folder / "a.png").read_bytes()

    def add(name, body=content):
        return served.client.post("/api/images", content=body, headers={"x-name": name})

    response = add("new%20%C3%BC.png")
    assert response.status_code == 200 and response.json()["name"] == "new ü.png"
    assert (served.folder / "new ü.png").read_bytes() == content
    for name in (
        "a.png",
        "a.tif",
        "..%2Fx.png",
        "x%2Fy.png",
        "x%5Cy.png",
        ".x.png",
        "",
        "x",
        "x.exe",
    ):
        assert add(name).status_code == 422, name
    for name in ("%00.png", "x%0Ay.png", "-x.png", "x" * 300 + ".png", "CON%3A.png", "%FF.png"):
        assert add(name).status_code == 422, name
    response = add("broken.png", content[:100])
    assert response.status_code == 422 and "broken.png" in response.json()["message"]
    assert str(served.folder) not in response.json()["message"]
    names = {path.name for path in served.folder.iterdir()}
    assert names == {"a.png", "b.png", "new ü.png", "corrected"}


def test_a_field_is_cut_and_what_makes_none_is_refused(served):
    path = f"/api/images/{served.keys['a']}/fields"
    field = served.post(path, box=[100.4, 80.0, 20.6, 30.2])
    assert field["name"] == "a_x20_y30.png" and (field["width"], field["height"]) == (81, 50)
    names = [it["name"] for it in served.get("/api/state")["images"]]
    assert sorted(names) == ["a.png", "a_x20_y30.png", "b.png"]
    for box in ([], [1, 2, 3], ["1", 2, 3, 4], [1e300, 0, 0, 0], [0, 0, 9, 9], None):
        assert served.client.post(path, json={"box": box}).status_code == 422
    assert served.client.post(path, content=b"[").status_code == 422
    assert (
        served.client.post("/api/images/nothing/fields", json={"box": [0, 0, 64, 64]}).status_code
        == 404
    )
    assert (
        served.client.post(
            path, json={"box": [0, 0, 64, 64]}, headers={"origin": "http://x"}
        ).status_code
        == 403
    )
    assert len(served.get("/api/state")["images"]) == 3


def test_an_image_that_waits_or_fails_says_so(tmp_path):
    folder = tmp_path / "images"
    with recording(folder / "corrected"):
        served = Served(folder, predicted=False)
        assert served.image()["state"] == "waiting"
        answer = served.get(f"/api/images/{served.keys['a']}/nuclei")
        assert answer == {"revision": 0, "nuclei": [], "state": "waiting"}
        assert "still being predicted" in served.edit("delete", 422, ids=[1])["message"]
        (folder / "b.png").write_bytes(b"no image")
        served.desk.predictor.predict(served.desk.workspace.entry(served.keys["b"]))
        assert served.image("b")["state"] == "failed"
        assert "b.png" in served.image("b")["note"]


def test_a_browser_that_goes_away_in_the_middle_of_a_request_is_no_fault(served, capsys):
    key, sent = served.keys["a"], []
    scope = {"type": "http", "method": "POST", "path": f"/api/images/{key}/edits", "headers": []}
    scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": ""}

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    run_beside(make_app(served.desk)(scope, receive, send))  # nothing is raised, nothing printed
    assert sent[0]["status"] == 400 and capsys.readouterr() == ("", "")
    assert served.image()["revision"] == 0
