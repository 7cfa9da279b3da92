"""A part of an image becomes an image: its pixels, its name, its limits, its scale."""

import numpy as np
import pytest
import tifffile
from app_tools import make_workspace, write_images
from PIL import Image

from nuclei.app import corrections
from nuclei.app.edits import Refused
from nuclei.app.entry import FAILED, PREDICTED, WAITING, key_of
from nuclei.app.fields import add_field
from nuclei.app.predicting import Predictor
from nuclei.app.requests import box_of
from nuclei.app.workspace import Unknown
from nuclei.images.box import Box
from nuclei.images.reading import open_image, read_stored

BOX = Box(10, 60, 20, 100)


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path / "images")
    return tmp_path / "images"


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_a_field_has_the_pixels_of_its_place_and_is_then_an_image_like_any(folder):
    workspace = make_workspace(folder)
    field = add_field(workspace, key_of("a"), BOX)
    assert field["name"] == "a_x20_y10.png" and field["state"] == WAITING
    assert (field["width"], field["height"]) == (80, 50)
    assert field["source"] == {"id": key_of("a"), "corner": (20, 10)}
    whole = open_image(folder / "a.png").image
    assert np.array_equal(open_image(folder / "a_x20_y10.png").image, whole[BOX.place])
    predictor = Predictor(workspace, lambda line: None)
    predictor.predict(workspace.entry(field["id"]))
    assert workspace.entry(field["id"]).state == PREDICTED
    assert corrections.accept(workspace, field["id"], True)["state"] == "accepted"
    home = folder / "corrected"
    assert (home / "gt" / "a_x20_y10.png").is_file() and (home / "raw" / "a_x20_y10.png").is_file()
    assert not list(home.rglob("a.png"))
    again = make_workspace(folder)  # the next run knows where it comes from
    assert again.entry(field["id"]).source == (key_of("a"), (20, 10))


def test_the_same_box_is_cut_once_and_no_file_is_replaced(folder):
    workspace = make_workspace(folder)
    (folder / "a_x0_y0.jpg").write_bytes(b"of the user")
    first = add_field(workspace, key_of("a"), BOX)
    assert add_field(workspace, key_of("a"), BOX)["id"] == first["id"]
    other = add_field(workspace, key_of("a"), BOX._replace(bottom=70))
    assert other["name"] == "a_x20_y10_2.png"
    assert add_field(workspace, key_of("a"), Box(0, 40, 0, 40))["name"] == "a_x0_y0_2.png"
    assert (folder / "a_x0_y0.jpg").read_bytes() == b"of the user"
    part = add_field(workspace, first["id"], Box(5, 45, 5, 45))
    assert part["name"] == "a_x20_y10_x5_y5.png" and part["source"]["id"] == first["id"]


@pytest.mark.parametrize(
    "shape, dtype", [((90, 90), np.uint8), ((90, 90), np.uint16), ((90, 90, 3), np.uint16)]
)
@pytest.mark.parametrize("mpp", (None, 0.25))
def test_colour_depth_and_pixel_size_stay(tmp_path, shape, dtype, mpp):
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    options = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    path = tmp_path / "images" / "a.tif"
    tifffile.imwrite(path, pixels, photometric=photometric, metadata=None, **options)
    field = add_field(make_workspace(tmp_path / "images"), key_of("a"), Box(10, 50, 20, 80))
    assert field["name"] == ("a_x20_y10.tif" if mpp else "a_x20_y10.png")
    written = tmp_path / "images" / field["name"]
    stored = read_stored(written).pixels
    assert stored.dtype == dtype and np.array_equal(stored, pixels[10:50, 20:80])
    assert open_image(written).mpp == (pytest.approx(mpp) if mpp else None)


def test_what_makes_no_field_is_refused_in_a_sentence(folder):
    Image.fromarray(np.zeros((10, 5000), np.uint8)).save(folder / "long.png")
    (folder / "bad.png").write_bytes(b"no image")
    workspace = make_workspace(folder)
    for box, words in (
        (box_of([50, 50, 40, 90]), "10 × 40 px; a field needs 32 px"),
        (Box(-50, -10, -50, -10), "0 × 0 px"),
        (Box(500, 900, 500, 900), "0 × 0 px"),
    ):
        with pytest.raises(Refused, match=words):
            add_field(workspace, key_of("a"), box)
    with pytest.raises(Unknown):
        add_field(workspace, "nothing", BOX)
    workspace.fail(workspace.entry(key_of("bad")), ValueError("no image"))
    with pytest.raises(Refused, match="could not be read"):
        add_field(workspace, key_of("bad"), BOX)
    assert workspace.entry(key_of("bad")).state == FAILED
    assert names(folder) == ["a.png", "b.png", "bad.png", "long.png"]


def test_a_field_has_a_limit_and_is_cut_to_the_image(folder):
    Image.fromarray(np.zeros((4200, 4200), np.uint8)).save(folder / "large.png")
    workspace = make_workspace(folder)
    with pytest.raises(Refused, match="4,200 × 4,200 px; a field has at most 4,096 px"):
        add_field(workspace, key_of("large"), Box(-9, 9999, 0, 9999))
    field = add_field(workspace, key_of("large"), Box(4150, 9999, 4100, 9999))
    assert field["name"] == "large_x4100_y4150.png"
    assert (field["width"], field["height"]) == (100, 50)


def test_a_field_is_seen_at_the_scale_of_its_image(folder):
    workspace = make_workspace(folder)
    predictor = Predictor(workspace, lambda line: None)
    predictor.predict(workspace.entry(key_of("a")))
    prediction = workspace.entry(key_of("a")).prediction
    workspace.entry(key_of("a")).prediction = type(prediction)(
        **{**prediction.__dict__, "scale": 1.37}
    )
    field = add_field(workspace, key_of("a"), BOX)
    predictor.predict(workspace.entry(field["id"]))
    assert workspace.entry(field["id"]).prediction.scale == 1.37
