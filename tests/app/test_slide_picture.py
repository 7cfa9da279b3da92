"""A slide is shown by its overview and by tiles; fields are read at the right level."""

import cv2
import numpy as np
import pytest
from app_tools import make_workspace, nuclei_of
from slides_tools import draw_tissue, write_pyramid, write_svs, write_zarr

from nuclei.app import corrections, slide_picture
from nuclei.app.edits import Refused
from nuclei.app.entry import FAILED, SLIDE, key_of
from nuclei.app.fields import add_field
from nuclei.app.predicting import Predictor
from nuclei.app.slide_picture import SlidePicture
from nuclei.app.tiles import TILE_PX
from nuclei.images.box import Box
from nuclei.images.reading import open_image
from nuclei.slides.formats import open_slide


@pytest.fixture(scope="module")
def tissue():
    """(800, 1200, 3) uint8: a small slide, larger than a tile."""
    return np.tile(draw_tissue(), (2, 2, 1))


def shown(picture, level):
    """All tiles of a level as one picture."""
    height, width = (-(-length // 2**level) for length in picture.shape[:2])
    rows = []
    for row in range(-(-height // TILE_PX)):
        codes = [picture.tile(level, column, row) for column in range(-(-width // TILE_PX))]
        tiles = [cv2.imdecode(np.frombuffer(code, np.uint8), cv2.IMREAD_COLOR) for code in codes]
        rows.append(np.concatenate(tiles, axis=1))
    return np.concatenate(rows)[..., ::-1]


@pytest.mark.parametrize("levels, overview_px", [(3, 4096), (3, 300), (1, 300), (1, 80)])
def test_tiles_of_each_level_show_the_slide(tmp_path, tissue, monkeypatch, levels, overview_px):
    """Where they come from: the overview, the levels of the file, or the overview enlarged."""
    monkeypatch.setattr(slide_picture, "OVERVIEW_PX", overview_px)
    path = write_pyramid(tmp_path / "a.ome.tif", tissue[:799, :1197], levels=levels)
    picture = SlidePicture(open_slide(path), 1.0)
    assert max(picture.overview.levels[0].shape) <= max(overview_px, 64)
    for level in range(3):
        size = [-(-length // 2**level) for length in (1197, 799)]
        expected = cv2.resize(tissue[:799, :1197], size, interpolation=cv2.INTER_AREA)
        picture_shown = shown(picture, level)
        assert picture_shown.shape == expected.shape
        blurred = [cv2.blur(one.astype(np.float32), (40, 40)) for one in (picture_shown, expected)]
        assert np.abs(blurred[0] - blurred[1]).mean() < 12
    for place in ((0, 5, 0), (0, 0, 4), (9, 0, 0)):
        assert picture.tile(*place) is None


@pytest.mark.parametrize(
    "scale, level, step", [(None, 0, 1), (1.7, 0, 1), (0.6, 0, 1), (0.5, 1, 2)]
)
def test_a_field_is_read_at_the_coarsest_level_that_is_fine_enough(
    tmp_path, tissue, scale, level, step
):
    picture = SlidePicture(open_slide(write_pyramid(tmp_path / "a.ome.tif", tissue)), scale)
    assert picture.step == step
    pixels, mpp = picture.cut(Box(100, 420, 60, 860))
    assert np.array_equal(
        pixels, tissue[::step, ::step][100 // step : 420 // step, 60 // step :][:, : 800 // step]
    )
    assert mpp == 0.5 * step


@pytest.mark.parametrize(
    "write, name", [(write_pyramid, "s.tif"), (write_zarr, "s.zarr"), (write_svs, "s.svs")]
)
def test_a_slide_in_the_folder_gives_fields(tmp_path, tissue, write, name):
    folder = tmp_path / "images"
    folder.mkdir()
    write(folder / name, tissue)
    workspace = make_workspace(folder)
    predictor = Predictor(workspace, lambda line: None)
    entry = workspace.next_to_predict()
    predictor.predict(entry)
    state = workspace.state()["images"][0]
    assert (state["state"], state["slide"], state["width"]) == (SLIDE, True, tissue.shape[1])
    assert nuclei_of(workspace, entry.key)["nuclei"] == []
    field = add_field(workspace, entry.key, Box(200, 600, 300, 900))
    assert field["name"] == "s_x300_y200.tif" and field["source"]["id"] == entry.key
    file = open_image(folder / field["name"])
    difference = np.abs(file.image.astype(int) - tissue[200:600, 300:900])
    assert difference.mean() < 5  # JPEG of the SVS
    assert file.mpp == pytest.approx(workspace.pictures.get(entry.key).mpp)
    predictor.predict(workspace.entry(field["id"]))
    assert workspace.entry(field["id"]).state == "predicted"
    with pytest.raises(Refused, match="cut fields from it"):
        corrections.accept(workspace, entry.key, True)


def test_a_slide_that_cannot_be_read_says_so(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "bad.svs").write_bytes(b"no slide")
    workspace = make_workspace(tmp_path / "images")
    entry = workspace.entries[key_of("bad")]
    Predictor(workspace, lambda line: None).predict(entry)
    assert entry.state == FAILED and "bad.svs" in entry.note
