"""Every nucleus is found once, however the slide is cut."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from slides_tools import MODEL, contents, find, in_order_of_place, table_of, write_pyramid

from nuclei.inference.find import Options, find_nuclei
from nuclei.instances.confidence import image_uncertainty
from nuclei.results.image import measure_nuclei
from nuclei.slides import search
from nuclei.slides.formats import open_slide
from nuclei.slides.tiles import cut_tiles
from nuclei.slides.work import work_folder


@pytest.mark.parametrize("scale", [1.0, 0.8, 1.37])
def test_a_slide_in_tiles_equals_the_whole_image(readable, tissue, tmp_path, scale):
    slide = open_slide(readable["ome"])
    whole = find_nuclei(tissue, MODEL, Options(scale=scale, tile_px=4096))
    expected = measure_nuclei(whole, MODEL, mpp=0.5).drop(columns=["id", "nearest_id"])
    expected.insert(0, "image", "s")
    expected = in_order_of_place(expected)
    assert len(expected) > 100 and whole.kind == "tissue"
    for tile_px in (320, 416, 4096):
        out = tmp_path / str(tile_px)
        found = find(slide, out, tile_px=tile_px, scale=scale, tissue_mask=False, mpp=0.5)
        assert found.num_cut == 0  # no nucleus is larger than the overlap is made for
        assert (len(found.tiles) > 1) == (tile_px < 4096)
        pd.testing.assert_frame_equal(table_of(found), expected, check_exact=True)
        summary = found.summary()
        assert summary["uncertainty"] == pytest.approx(image_uncertainty(whole.maps), abs=1e-4)
        assert summary["nucleus_share"] == pytest.approx((whole.labels > 0).mean(), abs=1e-4)


def test_order_threads_and_batches_change_nothing(readable, tmp_path, monkeypatch):
    slide = open_slide(readable["ome"])
    expected = find(slide, tmp_path / "one")
    files = contents(work_folder(tmp_path / "one", "s").path)
    run_tiles = search.run_tiles
    monkeypatch.setattr(
        "nuclei.slides.search.run_tiles",
        lambda tiles, *arguments: run_tiles(tiles[::-1], *arguments),
    )
    monkeypatch.setattr("nuclei.slides.search.NUM_THREADS", 3)
    turned = find(slide, tmp_path / "turned", batch_size=2)
    assert len(turned.tiles) > 4
    pd.testing.assert_frame_equal(table_of(turned), table_of(expected), check_exact=True)
    files_of_turned = contents(work_folder(tmp_path / "turned", "s").path)
    assert {path.name for path in files} == {path.name for path in files_of_turned}
    for found, name in ((expected, "one"), (turned, "turned")):
        found.write(tmp_path / name, ["geojson", "overlays"])
    for name in ("geojson/s.geojson", "overlays/s.jpg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "turned" / name).read_bytes()


def test_the_mask_keeps_background_out_and_changes_nothing_on_tissue(readable, tmp_path):
    slide = open_slide(readable["ome"])
    everything = find(slide, tmp_path / "all", tissue_mask=False)
    assert not (tmp_path / "all" / "tissue").exists()
    masked = find(slide, tmp_path / "masked")
    assert len(masked.tiles) < len(everything.tiles) == len(cut_tiles(masked.setup))
    pd.testing.assert_frame_equal(table_of(masked), table_of(everything), check_exact=True)
    picture = np.array(Image.open(tmp_path / "masked" / "tissue" / "s.png"))
    assert picture[:, : picture.shape[1] // 2].mean() > 240 and not picture[:, -5:].any()


def test_a_slide_without_tissue_has_no_nuclei_and_says_so(tmp_path, capsys):
    background = np.full((300, 400, 3), 241, np.uint8)
    slide = open_slide(write_pyramid(tmp_path / "empty.ome.tif", background, mpp=None))
    found = find(slide, tmp_path, stem="g", scale=None)
    assert found.tiles == [] and "no tissue" in capsys.readouterr().out
    assert found.summary()["nuclei"] == 0


def test_progress_says_area_nuclei_and_time(readable, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nuclei.progress.LOG_SECONDS", 0)
    slide = open_slide(readable["ome"])
    found = find(slide, tmp_path / "mm", mpp=0.5)
    lines = capsys.readouterr().out.splitlines()
    assert 1 < len(lines) <= min(10, len(found.tiles))
    assert lines[0].startswith("s: 0.0") and " mm², " in lines[0] and lines[0].endswith(" s left")
    assert f", {len(found)} nuclei, " in lines[-1]
    slide.mpp = None
    find(slide, tmp_path / "mp")
    assert " MP, " in capsys.readouterr().out
