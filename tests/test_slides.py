"""Slides: what is read, that every nucleus is found once however the slide is cut, that a killed run goes on, and bad input."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import test_predict
import tifffile
import zarr
from PIL import Image
from scipy import ndimage, special
from synthetic import draw

import predict
from nuclei.files import only_run
from nuclei.images.masks import read_truth
from nuclei.images.reading import read_image
from nuclei.images.resize import taps
from nuclei.inference.scale import predict_at_trained_scale
from nuclei.instances.confidence import image_uncertainty
from nuclei.instances.measure import measure
from nuclei.instances.separate import THRESHOLDS as THE_THRESHOLDS
from nuclei.instances.separate import separate
from nuclei.model_file import TRAINED_DIAMETER_PX
from nuclei.polygons import outlines, pack, unpack
from nuclei.slides.folder import NUCLEUS_UM
from nuclei.slides.formats import find_slides, is_slide, open_slide
from nuclei.slides.search import Progress, clear, find_nuclei_on_slide, run_tiles, work_folder
from nuclei.slides.setup import LARGEST, Setup, decide
from nuclei.slides.tiles import cut_tiles
from nuclei.slides.tissue import find_tissue
from nuclei.training.targets import targets

ROOT = Path(__file__).resolve().parent.parent
model = test_predict.model  # a network that finds bright blobs
DIAMETER = 14
GEOMETRY = {"margin": 16, "multiple": 8}
THRESHOLDS = {**THE_THRESHOLDS, "min_area_px": 12}


def network(batch):
    """Maps by local filters, which see 12 px far: what is dark in red is nucleus, what is dark in green its depth."""
    maps = np.zeros(batch.shape, np.float32)
    for window, painted in zip(batch, maps, strict=True):
        painted[..., 0] = special.expit(14 * (ndimage.gaussian_filter(1 - window[..., 0], 1.0) - 0.5))
        painted[..., 1] = ndimage.gaussian_filter(1 - window[..., 1], 2.0)
        painted[..., 2] = 0.2 * (1 - painted[..., 0])
    return maps


@pytest.fixture(scope="module")
def tissue():
    """A picture of 400 x 600 px that `network` reads: touching nuclei on tissue, with glass at the right."""
    labels = draw("tissue", 400, 420, num_nuclei=160, diameter=DIAMETER, seed=4, touching=0.5)[1]
    nucleus, depth = np.moveaxis(targets(labels, ("nucleus", "distance")), -1, 0)
    image = np.stack([220 - 190 * nucleus, 220 - 190 * depth, np.full(labels.shape, 200)], axis=-1)
    image = np.concatenate([image, np.full((400, 180, 3), 243)], axis=1)
    image += np.random.default_rng(0).integers(-4, 5, image.shape)  # no two places alike, no ties
    return np.clip(image, 0, 255).astype(np.uint8)


def write_pyramid(path, image, levels=3, mpp=0.5, tile=64, axes="YXS", metadata=None, **options):
    """A tiled pyramid as OME-TIFF (by its name) or plain TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ome = path.name.endswith((".ome.tif", ".ome.tiff"))
    said = {"axes": axes, **({} if mpp is None else {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp})} if ome else {}
    options = {"photometric": "rgb" if axes.endswith("S") else "minisblack", "tile": (tile, tile), **options}
    if mpp and not ome:
        options.update(resolution=(1e4 / mpp, 1e4 / mpp), resolutionunit="CENTIMETER")
    with tifffile.TiffWriter(path, ome=ome) as tiff:
        tiff.write(image, subifds=levels - 1, metadata={**said, **(metadata or {})} if ome else None, **options)
        for level in range(1, levels):
            part = (slice(None, None, 1 << level),) * 2
            part = part if axes.startswith("YX") else (..., *part)
            tiff.write(np.ascontiguousarray(image[part]), subfiletype=1, metadata=None, **options)
    return path


def write_zarr(path, image, levels=3, scale=(0.5, 0.5), unit="micrometer", version="0.4"):
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    axes = [{"name": "c", "type": "channel"}, *({"name": axis, "type": "space", "unit": unit} for axis in "yx")]
    for level in range(levels):
        part = np.moveaxis(image[:: 1 << level, :: 1 << level], -1, 0)
        group.create_array(str(level), shape=part.shape, chunks=(1, 100, 100), dtype=image.dtype)[:] = part
    said = {
        "multiscales": [
            {
                "axes": axes,
                "datasets": [
                    {"path": str(level), "coordinateTransformations": [
                        {"type": "scale", "scale": [1, *(step * (1 << level) for step in scale)]}]}
                    for level in range(levels)
                ],
            }
        ]
    }  # fmt: skip
    group.attrs.update(said if version == "0.4" else {"ome": {"version": "0.5", **said}})
    return path


def write_svs(path, image, mpp="0.25"):
    """What makes a tiled JPEG TIFF one of Aperio's: the description."""
    height, width = image.shape[:2]
    said = f"Aperio Image Library v1.0 \r\n{width}x{height} [0,0 {width}x{height}] (128x128) JPEG/RGB Q=90|AppMag = 40"
    options = {
        "photometric": "rgb",
        "tile": (128, 128),
        "compression": "jpeg",
        "compressionargs": {"level": 95},
        "metadata": None,
    }
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, description=said + (f"|MPP = {mpp}" if mpp else ""), **options)
        tiff.write(np.ascontiguousarray(image[::4, ::4]), description="Aperio Image Library v1.0 \r\nlevel", **options)
    return path


def find(slide, out, threads=1, tile=320, scale=1.0, stem="s", **more):
    return find_nuclei_on_slide(
        slide, out, stem, network, 3, THRESHOLDS, DIAMETER, GEOMETRY, "test", scale=scale, tile=tile, threads=threads,
        say=lambda line: None, **more,
    ).gather()  # fmt: skip


def table_of(found):
    """All nuclei in an order that is theirs, without what depends on their numbers."""
    tables = [table for table, _ in found.parts()]
    table = pd.concat(tables).drop(columns=["id", "nearest_id"])
    return table.sort_values(["centroid_row_px", "centroid_column_px"], ignore_index=True)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- Reading --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readable(tissue, tmp_path_factory):
    folder = tmp_path_factory.mktemp("readable")
    return {
        "ome": write_pyramid(folder / "a.ome.tif", tissue),
        "plain": write_pyramid(folder / "b.tif", tissue, compression="zlib"),
        "zarr": write_zarr(folder / "c.zarr", tissue),
        "zarr 0.5": write_zarr(folder / "d.zarr", tissue, version="0.5"),
        "svs": write_svs(folder / "e.svs", tissue),
    }


@pytest.mark.parametrize("kind", ["ome", "plain", "zarr", "zarr 0.5", "svs"])
def test_every_format_reads_like_the_array(readable, tissue, kind):
    assert is_slide(readable[kind])
    slide = open_slide(readable[kind])
    assert slide.shape == tissue.shape and slide.dtype == np.uint8 and slide.notes == []
    assert slide.mpp == pytest.approx(0.25 if kind == "svs" else 0.5)
    assert slide.downsamples == pytest.approx([1, 4] if kind == "svs" else [1, 2, 4], rel=0.01)
    for place in np.s_[0:64, 0:64], np.s_[37:300, 311:600], np.s_[390:400, 0:5], np.s_[40:90, 50:60]:
        read = slide[place]
        assert read.shape == tissue[place].shape and read.dtype == np.uint8
        if kind == "svs":  # JPEG
            assert np.abs(read.astype(int) - tissue[place]).mean() < 4
        else:
            np.testing.assert_array_equal(read, tissue[place])


@pytest.mark.parametrize("kind", ["ome", "zarr", "svs"])
def test_a_slide_seen_smaller_comes_from_the_nearest_finer_level(readable, tissue, kind):
    slide = open_slide(readable[kind])
    asked = []
    read = slide.read
    slide.read = lambda level, box: asked.append(slide.levels[level].shape[0]) or read(level, box)
    for scale, rows in ((1.0, 400), (0.7, 400), (0.45, 400 if kind == "svs" else 200), (0.2, 100), (2.0, 400)):
        seen = slide.at(scale)
        assert seen.shape == (round(400 * scale), round(600 * scale), 3)
        part = np.asarray(seen[10:50, 20:90])
        assert part.shape == (40, 70, 3) and asked[-1] == rows
    assert slide.at(1.0) is slide.levels[0]
    thumbnail = slide.thumbnail(200)
    assert max(thumbnail.shape) <= 200 and thumbnail.shape[0] / thumbnail.shape[1] == pytest.approx(400 / 600, rel=0.02)
    expected = cv2.resize(tissue, thumbnail.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(thumbnail.astype(int) - expected).mean() < 12


def test_what_is_a_slide_and_what_an_image(readable, tissue, tmp_path):
    small = tmp_path / "small.tif"
    tifffile.imwrite(small, tissue[:100, :100], photometric="rgb")
    assert not is_slide(small)
    tifffile.imwrite(tmp_path / "one.ome.tif", tissue[:100, :100], photometric="rgb")
    assert not is_slide(tmp_path / "one.ome.tif")
    (tmp_path / "broken.tif").write_bytes(b"II*\0 and nothing more")
    assert not is_slide(tmp_path / "broken.tif") and not is_slide(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "large.tif", shape=(8200, 64), dtype=np.uint8, tile=(64, 64))
    assert is_slide(tmp_path / "large.tif")
    assert open_slide(tmp_path / "large.tif")[8000:8010, 3:9].shape == (10, 6, 3)
    assert not is_slide(tmp_path)
    folder = tmp_path / "patient"
    folder.mkdir()
    for name in ("1.dcm", "2.dcm", "x.svs", ".hidden.svs", "notes.txt"):
        (folder / name).write_bytes(b"")
    assert [(stem, path.name) for stem, path in find_slides(folder)] == [("patient", "1.dcm"), ("x", "x.svs")]


def test_channels_stacks_and_series_are_told(tmp_path):
    planes = np.random.default_rng(0).integers(0, 5000, (2, 4, 3, 96, 128)).astype(np.uint16)
    names = {"Channel": {"Name": ["FITC", "DAPI", "TRITC", "Cy5"]}}
    path = write_pyramid(tmp_path / "a.ome.tif", planes, levels=1, axes="TCZYX", metadata=names, tile=32)
    assert is_slide(path)
    slide = open_slide(path)
    np.testing.assert_array_equal(slide[10:40, 5:100], np.repeat(planes[0, 1, 1, 10:40, 5:100, None], 3, axis=2))
    said = "\n".join(slide.notes)
    assert "channel 2 of 4 is taken, DAPI" in said and "FITC, DAPI, TRITC, Cy5" in said
    assert "plane 2 of 3 of the z-stack" in said and "image 1 of 2 of the time series" in said
    for channel, index in (("trITC", 2), ("1", 0), (4, 3)):
        slide = open_slide(path, channel)
        np.testing.assert_array_equal(
            slide[
                0:9,
                0:9,
            ][..., 0],
            planes[0, index, 1, :9, :9],
        )
    for channel in ("5", "0", "GFP"):
        with pytest.raises(ValueError, match="has no channel .*1 FITC, 2 DAPI"):
            open_slide(path, channel)


def test_three_channels_are_colours_unless_they_have_names(tmp_path):
    planes = np.random.default_rng(0).integers(0, 200, (3, 96, 128)).astype(np.uint8)
    plain = open_slide(write_pyramid(tmp_path / "a.ome.tif", planes, levels=2, axes="CYX", tile=32))
    np.testing.assert_array_equal(plain[:, :], np.moveaxis(planes, 0, -1))
    names = {"Channel": {"Name": ["Actin", "Hoechst 33342", "Tubulin"]}}
    path = write_pyramid(tmp_path / "b.ome.tif", planes, levels=2, axes="CYX", tile=32, metadata=names)
    np.testing.assert_array_equal(open_slide(path)[:, :][..., 2], planes[1])
    colour = open_slide(write_pyramid(tmp_path / "c.ome.tif", np.moveaxis(planes, 0, -1).copy(), levels=2, tile=32), "1")
    assert "in colour" in colour.notes[0]


def test_pixel_sizes_that_make_no_sense_are_said_and_ignored(tissue, tmp_path):
    small = tissue[:128, :128]

    def opened(name, **options):
        return open_slide(write_pyramid(tmp_path / name, small, levels=2, tile=32, **options))

    assert "does not say" in opened("a.ome.tif", mpp=None).notes[0]
    for number, mpp in enumerate((84.7, 0.001, 500.0)):
        slide = opened(f"b{number}.tif", mpp=mpp)
        assert slide.mpp is None and "no slide has" in slide.notes[0] and "--mpp" in slide.notes[0]
    slide = opened("c.ome.tif", metadata={"PhysicalSizeX": 0.25, "PhysicalSizeY": 1.0})
    assert slide.mpp == pytest.approx(0.5) and "not square" in slide.notes[0]
    slide = opened(
        "d.ome.tif",
        metadata={"PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 250.0, "PhysicalSizeYUnit": "nm"},
    )
    assert slide.mpp == pytest.approx(0.25)
    slide = open_slide(write_svs(tmp_path / "e.svs", small, mpp=None))
    assert slide.mpp is None and "40x" in slide.notes[1]


def test_damaged_slides_are_named(readable, tissue, tmp_path):
    for kind, name in (("plain", "cut.tif"), ("svs", "cut.svs"), ("ome", "cut.ome.tif")):
        whole = readable[kind].read_bytes()
        for share in (0.02, 0.5, 0.97):
            path = tmp_path / name
            path.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(ValueError, match=f"{name}.*copy it again"):
                open_slide(path)[:, :]
    (tmp_path / "empty.svs").write_bytes(b"")
    with pytest.raises(ValueError, match="empty.svs"):
        open_slide(tmp_path / "empty.svs")
    with pytest.raises(FileNotFoundError):
        open_slide(tmp_path / "none.svs")
    floats = tmp_path / "floats.tif"
    tifffile.imwrite(floats, tissue[..., 0].astype(np.float32), tile=(64, 64))
    with pytest.raises(ValueError, match="float32; expected 8 or 16 bits"):
        open_slide(floats)


def test_missing_levels_of_a_zarr(tissue, tmp_path):
    import shutil

    path = write_zarr(tmp_path / "a.zarr", tissue)
    shutil.rmtree(path / "1")
    slide = open_slide(path)
    assert "level 1 is missing" in slide.notes[0] and slide.downsamples == pytest.approx([1, 4])
    shutil.rmtree(path / "0")
    with pytest.raises(ValueError, match="lacks its full resolution"):
        open_slide(path)
    zarr.open_group(tmp_path / "b.zarr", mode="w")
    with pytest.raises(ValueError, match="no OME-Zarr image"):
        open_slide(tmp_path / "b.zarr")


def test_an_omezarr_of_several_images_is_its_first(tissue, tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    write_zarr(tmp_path / "a.zarr" / "0", tissue[:80, :90], levels=1)
    assert open_slide(tmp_path / "a.zarr").shape == (80, 90, 3)


@pytest.mark.parametrize(
    ("kind", "missing", "words"),
    [("svs", "openslide", "openslide-python"), ("ome", "zarr", "zarr imagecodecs"), ("zarr", "zarr", "zarr")],
)
def test_a_missing_package_is_named_with_the_command(readable, monkeypatch, kind, missing, words):
    monkeypatch.setattr("nuclei.machine.is_installed", lambda package: package != missing)
    with pytest.raises(ValueError, match=f"python -m pip install {words}"):
        open_slide(readable[kind])


def test_openslide_without_its_library(readable, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(ValueError, match="openslide-bin"):
        open_slide(readable["svs"])


# --- Tissue ---------------------------------------------------------------------------------------------------------


def test_tissue_is_found_and_glass_is_not(tissue):
    mask = find_tissue(tissue, 8)
    assert mask.shape == (50, 75) and mask[:, :50].mean() > 0.97 and not mask[:, 56:].any()
    random = np.random.default_rng(0)
    glass = np.clip(random.normal(240, 2, (300, 400, 3)), 0, 255).astype(np.uint8)
    assert not find_tissue(glass, 4).any()
    assert not find_tissue((glass.astype(np.uint16) * 257), 4).any()
    assert find_tissue(tissue[:, :400], 8).mean() > 0.97  # no glass in the picture
    unscanned = np.concatenate([tissue, np.zeros((400, 900, 3), np.uint8)], axis=1)  # black, as some scanners leave it
    mask = find_tissue(unscanned, 8)
    assert mask[:, :50].mean() > 0.97 and not mask[:, 80:].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tissue_of_fluorescence_is_light(dtype):
    image = draw("fluorescence", 200, 200, num_nuclei=20, diameter=20, seed=1, touching=0)[0]
    dark = np.pad(image, ((0, 0), (0, 400), (0, 0)), constant_values=5)
    dark = (dark.astype(np.uint16) * 16 + 100).astype(dtype) if dtype == np.uint16 else dark
    mask = find_tissue(dark, 8)
    assert mask[:, :25].mean() > 0.5 and not mask[:, 40:].any()
    assert not find_tissue(np.full((90, 90, 3), 7, dtype), 8).any()
    noise = np.random.default_rng(0).normal(100 if dtype == np.uint16 else 6, 1, (300, 300, 3)).astype(dtype)
    assert not find_tissue(noise, 8).any()


# --- Every nucleus once ---------------------------------------------------------------------------------------------


def whole_table(image, scale, mpp=None):
    """The nuclei of the same pixels at once, as predict.py finds them in an image."""
    intensity = slides.intensity_range(image)
    maps, _ = predict_at_trained_scale(
        network, image, 3, DIAMETER, None, scale=scale, prepare=lambda part: slides.normalise(part, intensity), tile=4096,
        **GEOMETRY,
    )  # fmt: skip
    labels = separate(maps, scale=scale, **THRESHOLDS)
    table = pd.DataFrame({"image": "s", **measure(labels, image, maps, stained=True, mpp=mpp)})
    table = table.drop(columns=["id", "nearest_id"]).sort_values(["centroid_row_px", "centroid_column_px"], ignore_index=True)
    return table, labels, maps


@pytest.mark.parametrize("scale", [1.0, 0.8, 1.37])
def test_a_slide_in_windows_equals_the_whole(readable, tissue, tmp_path, scale):
    slide = open_slide(readable["ome"])
    expected, labels, maps = whole_table(tissue, scale, mpp=0.5)
    assert len(expected) > 100
    for tile in (320, 416, 4096):
        found = find(slide, tmp_path / str(tile), tile=tile, scale=scale, tissue_mask=False, mpp=0.5)
        assert found.cut == 0  # no nucleus is larger than the overlap is made for
        assert (len(found.units) > 1) == (tile < 4096)
        pd.testing.assert_frame_equal(table_of(found), expected, check_exact=True)
        assert found.summary()["uncertainty"] == pytest.approx(image_uncertainty(maps), abs=1e-4)
        assert found.summary()["nucleus_share"] == pytest.approx((labels > 0).mean(), abs=1e-4)


def test_order_threads_and_batches_change_nothing(readable, tmp_path, monkeypatch):
    slide = open_slide(readable["ome"])
    expected = find(slide, tmp_path / "one")
    written = contents(work_folder(tmp_path / "one", "s"))
    run = run_tiles
    monkeypatch.setattr("nuclei.slides.search.run_tiles", lambda units, *arguments: run(units[::-1], *arguments))
    turned = find(slide, tmp_path / "turned", threads=3, batch_size=2)
    assert len(turned.units) > 4
    pd.testing.assert_frame_equal(table_of(turned), table_of(expected), check_exact=True)
    assert {path.name for path in written} == {path.name for path in contents(work_folder(tmp_path / "turned", "s"))}
    for found, name in ((expected, "one"), (turned, "turned")):
        found.write(tmp_path / name, ["geojson", "overlays"])
    for name in ("geojson/s.geojson", "overlays/s.jpg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "turned" / name).read_bytes()


def test_the_mask_keeps_glass_out_and_changes_nothing_on_tissue(readable, tmp_path):
    slide = open_slide(readable["ome"])
    asked = []
    read = slide.read
    slide.read = lambda level, box: asked.append(box) or read(level, box)
    everything = find(slide, tmp_path / "all", tissue_mask=False)
    assert not (tmp_path / "all" / "tissue").exists()
    masked = find(slide, tmp_path / "masked")
    assert len(masked.units) < len(everything.units) == len(cut_tiles(masked.setup))
    pd.testing.assert_frame_equal(table_of(masked), table_of(everything), check_exact=True)
    picture = np.array(Image.open(tmp_path / "masked" / "tissue" / "s.png"))
    assert picture[:, : picture.shape[1] // 2].mean() > 240 and not picture[:, -5:].any()


@pytest.mark.parametrize("shape", [(1, 1), (15, 700), (333, 97), (512, 512), (377, 601)])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_units_partition_the_slide_and_see_far_enough(shape, scale):
    seen = tuple(max(1, round(length * scale)) for length in shape)
    overlap = 30
    for side in (200, 256, 1024):
        region = int((side - 2 * 16 - 8 - 4) / scale)
        setup = Setup("k", shape, seen, scale, (0, 1), 255, "tissue", side, 16, 8, region, overlap)
        count = np.zeros(shape, int)
        for unit in cut_tiles(setup):
            count[unit.core.place] += 1
            for axis in (0, 1):
                core, area, window = unit.core[2 * axis :][:2], unit.region[2 * axis :][:2], unit.window[2 * axis :][:2]
                assert area[0] == max(0, core[0] - overlap) and area[1] == min(shape[axis], core[1] + overlap)
                needed = taps(*area, seen[axis], shape[axis])[0]
                assert window[0] % 8 == window[1] % 8 == 0 and window[1] - window[0] <= side
                assert window[0] == 0 or needed.min() - window[0] >= 16
                assert window[1] >= seen[axis] or window[1] - needed.max() - 1 >= 16
        assert (count == 1).all()


def test_large_slides_are_decided_by_samples_of_their_tissue(readable, tmp_path, monkeypatch):
    slide = open_slide(readable["ome"])
    whole = find(slide, tmp_path / "whole", scale=None)
    monkeypatch.setattr("nuclei.slides.setup.WHOLE_PX", 1000)
    monkeypatch.setattr("nuclei.slides.setup.LOOK_PX", 300)
    monkeypatch.setattr("nuclei.slides.setup.SAMPLE_PX", 40)
    sampled = find(slide, tmp_path / "sampled", scale=None)
    assert sampled.setup.scale == pytest.approx(whole.setup.scale, rel=0.2)
    np.testing.assert_allclose(sampled.setup.intensity, whole.setup.intensity, atol=12)
    assert len(sampled.diameters) == pytest.approx(len(whole.diameters), rel=0.1)


def test_a_tile_too_small_says_which_would_do(readable):
    slide = open_slide(readable["ome"])
    mask = np.ones((40, 60), bool)

    def decide(tile):
        return decide(slide, slide.thumbnail(600), mask, network, 3, DIAMETER, GEOMETRY, 1.0, tile, "key")

    with pytest.raises(ValueError, match="--tile") as raised:
        decide(128)
    setup = decide(int(str(raised.value).split("--tile ")[1].split()[0]))
    assert setup.region >= 3 * setup.overlap >= 6 * LARGEST * DIAMETER


def test_outlines_survive_packing():
    labels = np.random.default_rng(0).integers(0, 6, (40, 50)).astype(np.int32)  # holes and pieces, worse than nuclei
    outlined = [polygons for _, polygons in outlines(labels)]
    again = unpack(**pack(outlined))
    assert len(again) == len(outlined)
    for one, other in zip(again, outlined, strict=True):
        assert [[ring.tolist() for ring in rings] for rings in one] == [[ring.tolist() for ring in rings] for rings in other]
    assert unpack(**pack([])) == []


# --- Killed, and going on -------------------------------------------------------------------------------------------

FORMATS = ["overlays", "geojson", "geojson.gz", "geojson.zip", "omezarr", "ometiff", "parquet"]


def child(slide, out):
    """What the test below kills: a slow run of a process of its own."""
    global network
    quick = network

    def network(batch):
        time.sleep(0.15)
        return quick(batch)

    find(open_slide(Path(slide)), Path(out), stem="s").write(Path(out), FORMATS)


def test_a_killed_run_goes_on_and_its_files_equal_those_of_one_in_one_go(readable, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    code = (
        "import sys, types; sys.modules['test_predict'] = types.SimpleNamespace(model=None)\n"  # Keras, which takes seconds
        f"import test_slides; test_slides.child({str(readable['ome'])!r}, {str(cut)!r})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    folder = work_folder(cut, "s")
    deadline = time.monotonic() + 60
    while len(list(folder.glob("unit_*.npz"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = {path.name: path.stat().st_mtime_ns for path in folder.glob("unit_*.npz")}
    assert len(finished) >= 3
    (folder / "unit_000001.npz").write_bytes(b"half of a fi")  # as a loss of power leaves it
    del finished["unit_000001.npz"]
    slide = open_slide(readable["ome"])
    said = []
    found = find_nuclei_on_slide(slide, cut, "s", network, 3, THRESHOLDS, DIAMETER, GEOMETRY, "test", scale=1.0, tile=320,
                               say=said.append).gather()  # fmt: skip
    assert f"{len(finished)} of {len(found.units)} windows were finished before" in said[0] and len(finished) < len(found.units)
    assert {name: (folder / name).stat().st_mtime_ns for name in finished} == finished
    found.write(cut, FORMATS)
    find(slide, whole).write(whole, FORMATS)
    for out in (whole, cut):
        clear(out, "s")
    assert contents(cut) == contents(whole) and len(contents(whole)) > len(FORMATS)


def test_what_was_begun_with_other_settings_is_begun_anew(readable, tmp_path):
    slide, said = open_slide(readable["ome"]), []
    find(slide, tmp_path)
    before = contents(tmp_path)
    find(slide, tmp_path)
    assert contents(tmp_path) == before
    found = find_nuclei_on_slide(slide, tmp_path, "s", network, 3, THRESHOLDS, DIAMETER, GEOMETRY, "test", scale=1.0, tile=416,
                               say=said.append)  # fmt: skip
    units = {path.name for path in work_folder(tmp_path, "s").glob("unit_*.npz")}
    assert "begun anew" in said[0] and len(found.units) == len(units) < sum("unit" in path.name for path in before)
    (work_folder(tmp_path, "s") / "setup.json").write_text("{")  # damaged: nothing is known of what lies there
    find(slide, tmp_path)
    assert contents(tmp_path).keys() == before.keys()


def test_progress_says_area_nuclei_and_time(readable, tmp_path, monkeypatch):
    monkeypatch.setattr("nuclei.slides.search.SAY_SECONDS", 0.0)
    slide, said = open_slide(readable["ome"]), []
    found = find_nuclei_on_slide(slide, tmp_path, "s", network, 3, THRESHOLDS, DIAMETER, GEOMETRY, "test", scale=1.0, tile=320,
                               mpp=0.5, say=said.append).gather()  # fmt: skip
    assert len(said) == len(found.units)
    assert said[-1].startswith("s: 0.0") and f"mm², {len(found.diameters)} nuclei" in said[-1] and "0 s left" in said[-1]
    Progress("x", found.units, found.units, 0, None, said.append).add(found.units[0], 5)
    assert " MP, 5 nuclei" in said[-1]


# --- Formats --------------------------------------------------------------------------------------------------------


def test_formats_hold_the_same_nuclei(readable, tissue, tmp_path):
    slide = open_slide(readable["ome"])
    found = find(slide, tmp_path, mpp=0.5)
    found.write(tmp_path, FORMATS)
    count = len(found.diameters)
    areas = np.concatenate([table["area_px"] for table, _ in found.parts()])
    base = zarr.open_group(tmp_path / "omezarr" / "s.zarr", mode="r")
    labels = base["0"][:]
    assert labels.shape == tissue.shape[:2] and labels.max() == count
    np.testing.assert_array_equal(np.bincount(labels.ravel())[1:], areas)
    np.testing.assert_array_equal(base["1"][:], labels[::2, ::2])
    assert base.attrs["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"] == [1.0, 1.0]
    with tifffile.TiffFile(tmp_path / "ometiff" / "s.ome.tif") as tiff:
        np.testing.assert_array_equal(tiff.series[0].asarray(), labels)
        assert len(tiff.series[0].levels) == 2 and 'PhysicalSizeX="0.5"' in tiff.ome_metadata
    plain = (tmp_path / "geojson" / "s.geojson").read_bytes()
    assert gzip.decompress((tmp_path / "geojson" / "s.geojson.gz").read_bytes()) == plain
    with zipfile.ZipFile(tmp_path / "geojson" / "s.geojson.zip") as archive:
        assert archive.read("s.geojson") == plain
    features = json.loads(plain)["features"]
    assert [feature["properties"]["measurements"]["area_px"] for feature in features] == areas.tolist()
    assert len({feature["id"] for feature in features}) == count
    read = read_truth(tmp_path / "geojson" / "s.geojson", tissue.shape[:2]).labels
    np.testing.assert_array_equal(read > 0, labels > 0)
    table = pd.read_parquet(tmp_path / "parquet" / "s.parquet")
    assert table["id"].tolist() == list(range(1, count + 1)) and table["area_px"].tolist() == areas.tolist()
    at = labels[table["centroid_row_px"].astype(int), table["centroid_column_px"].astype(int)]
    assert (at == table["id"]).mean() > 0.95
    assert read_image(tmp_path / "overlays" / "s.jpg").shape == tissue.shape


def test_a_small_overview_shows_how_many_nuclei_there_are(readable, tmp_path, monkeypatch):
    monkeypatch.setattr("nuclei.slides.search.OVERVIEW_PX", 120)
    found = find(open_slide(readable["ome"]), tmp_path)
    before = (slides.normalise(found.overview, found.setup.intensity) * 255).round()
    changed = (found.draw() != before).any(axis=-1)
    assert changed[:, :60].mean() > 0.4 and changed.shape[1] <= 120


def test_a_slide_without_tissue_has_no_nuclei_and_says_so(tmp_path):
    slide = open_slide(write_pyramid(tmp_path / "glass.ome.tif", np.full((300, 400, 3), 241, np.uint8)))
    said = []
    found = find_nuclei_on_slide(slide, tmp_path, "g", network, 3, THRESHOLDS, DIAMETER, GEOMETRY, "test", tile=320,
                               say=said.append).gather()  # fmt: skip
    assert found.units == [] and "no tissue" in said[0]
    found.write(tmp_path, FORMATS)
    assert json.loads((tmp_path / "geojson" / "g.geojson").read_text())["features"] == []
    assert found.summary()["nuclei"] == 0 and not zarr.open_group(tmp_path / "omezarr" / "g.zarr")["0"][:].any()


# --- predict.py -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fluorescence():
    image = draw("fluorescence", 420, 520, num_nuclei=110, diameter=16, seed=2, touching=0.2)[0]
    return np.clip(image.astype(int) + np.random.default_rng(0).integers(0, 3, image.shape), 0, 255).astype(np.uint8)


def run(model, out, *inputs):
    return predict.main([*map(str, inputs), "--model", str(model), "--out", str(out)])


def rows(path):
    return pd.read_csv(path, dtype={"image": str}, keep_default_na=False)


def test_predict_takes_slides_like_images(model, fluorescence, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    channels = np.stack([np.zeros_like(fluorescence[..., 0]), fluorescence[..., 0]])
    names = {"Channel": {"Name": ["FITC", "DAPI"]}}
    slide = write_pyramid(folder / "b.ome.tif", channels, levels=2, axes="CYX", metadata=names, mpp=0.4)
    Image.fromarray(fluorescence).save(folder / "a.png")
    assert run(model, out, folder, "--tile", "500") == 0
    said = capsys.readouterr().out
    assert "b.ome: channel 2 of 2 is taken, DAPI" in said and "report.py" not in said
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "geojson/b.ome.geojson.zip", "labels/a.png", "masks/a.png", "nuclei.csv", "overlays/a.jpg", "overlays/b.ome.jpg",
        "summary.csv", "tissue/b.ome.png",
    ]  # fmt: skip
    table, summary = rows(out / "nuclei.csv"), rows(out / "summary.csv").set_index("image")
    mine = table[table["image"] == "b.ome"]
    assert len(mine) == summary.loc["b.ome", "nuclei"] > 20
    assert mine["id"].tolist() == list(range(1, len(mine) + 1))
    np.testing.assert_allclose(mine["centroid_row_um"].astype(float), mine["centroid_row_px"] * 0.4, atol=0.01)
    assert float(summary.loc["b.ome", "mpp"]) == 0.4 and summary.loc["b.ome", "modality"] == "fluorescence"
    assert float(summary.loc["b.ome", "scale"]) == pytest.approx(TRAINED_DIAMETER_PX * 0.4 / NUCLEUS_UM, abs=0.001)
    before = contents(out)
    work_folder(out, "b.ome").mkdir()  # killed after the last row, before the work folder went
    assert run(model, out, slide, "--tile", "500") == 0
    assert "finished already" in capsys.readouterr().out and contents(out) == before
    assert not work_folder(out, "b.ome").exists()
    assert run(model, out, slide, "--tile", "700", "--formats", "csv,omezarr,masks") == 0  # what is missing is added
    assert "is a slide: no masks of it" in capsys.readouterr().out
    assert (out / "omezarr" / "b.ome.zarr").is_dir() and (out / "nuclei.csv").read_bytes() == before[Path("nuclei.csv")]
    assert rows(out / "summary.csv").set_index("image").loc["b.ome", "formats"] == "overlays csv geojson.zip omezarr"
    assert run(model, out, slide, "--overwrite") == 0
    assert len(rows(out / "nuclei.csv")) == len(table)


def test_the_result_of_a_slide_is_that_of_the_image(model, fluorescence, tmp_path):
    Image.fromarray(fluorescence).save(tmp_path / "a.png")
    slide = write_pyramid(tmp_path / "b.ome.tif", fluorescence, mpp=0.4)
    assert run(model, tmp_path / "image", tmp_path / "a.png", "--mpp", "0.4") == 0
    expected = rows(tmp_path / "image" / "nuclei.csv").drop(columns=["image", "id", "nearest_id"])
    expected = expected.sort_values(["centroid_row_px", "centroid_column_px"], ignore_index=True)
    for tile in ("400", "2048"):
        assert run(model, tmp_path / tile, slide, "--no-tissue-mask", "--tile", tile) == 0
        table = rows(tmp_path / tile / "nuclei.csv").drop(columns=["image", "id", "nearest_id"])
        table = table.sort_values(["centroid_row_px", "centroid_column_px"], ignore_index=True)
        pd.testing.assert_frame_equal(table, expected, check_exact=True)


def test_what_makes_no_sense_is_refused_or_told(model, fluorescence, readable, tmp_path, capsys):
    slide = write_pyramid(tmp_path / "in" / "a.ome.tif", fluorescence, mpp=0.4)
    whole = readable["svs"].read_bytes()
    (tmp_path / "in" / "cut.svs").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    assert run(model, out, tmp_path / "in") == 1
    said = capsys.readouterr()
    assert "cut.svs" in said.err and "1 of 2 images" in said.err and "Traceback" not in said.err
    assert rows(out / "summary.csv")["image"].tolist() == ["a.ome"]
    assert run(model, tmp_path / "o2", slide, "--formats", "masks,labels") == 1
    assert "is a slide, which is written as" in capsys.readouterr().err
    assert run(model, tmp_path / "o2", slide, "--tile", "128") == 1
    assert "give --tile" in capsys.readouterr().err
    assert run(model, tmp_path / "o3", slide, "--mpp", "4", "--diameter", "20") == 0
    assert "although the file says 0.4" in capsys.readouterr().out
    names = {"Channel": {"Name": ["FITC", "DAPI"]}}
    two = write_pyramid(tmp_path / "two.ome.tif", np.stack([fluorescence[..., 0]] * 2), axes="CYX", metadata=names, levels=1)
    assert run(model, tmp_path / "o4", two, "--channel", "GFP") == 1
    assert "has no channel GFP" in capsys.readouterr().err
    (tmp_path / "twice").mkdir()
    for name in ("x.svs", "x.png"):
        (tmp_path / "twice" / name).write_bytes(b"")
    assert run(model, tmp_path / "o5", tmp_path / "twice") == 1
    assert "two --out folders" in capsys.readouterr().err


def test_a_full_disk_ends_in_one_line_and_the_next_run_goes_on(model, fluorescence, tmp_path, capsys, monkeypatch):
    slide, out = write_pyramid(tmp_path / "a.ome.tif", fluorescence, mpp=0.4), tmp_path / "out"
    save, left = np.savez_compressed, [2]

    def save_twice(*arguments, **arrays):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))
        save(*arguments, **arrays)

    monkeypatch.setattr(np, "savez_compressed", save_twice)
    assert run(model, out, slide, "--tile", "400", "--no-tissue-mask") == 1
    assert "the disk is full" in capsys.readouterr().err
    assert len(list(work_folder(out, "a.ome").glob("unit_*.npz"))) == 2
    assert not list(work_folder(out, "a.ome").glob(".unit_*"))
    monkeypatch.setattr(np, "savez_compressed", save)
    assert run(model, out, slide, "--tile", "400", "--no-tissue-mask") == 0
    assert "windows were finished before" in capsys.readouterr().out


def test_a_second_run_into_one_folder_is_refused(model, fluorescence, tmp_path, capsys):
    Image.fromarray(fluorescence).save(tmp_path / "a.png")
    out = tmp_path / "out"
    with only_run(out):
        assert run(model, out, tmp_path / "a.png") == 1
        assert f"process {os.getpid()}" in capsys.readouterr().err
        assert not (out / "summary.csv").exists()
    assert list(out.iterdir()) == []
    (out / ".lock").write_text("process 1 on a machine that is off")  # of a run that was killed
    assert run(model, out, tmp_path / "a.png") == 0 and not (out / ".lock").exists()
