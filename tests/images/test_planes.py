"""Which channel and focal plane of an image file is read, and what is said of the choice."""

import numpy as np
import pytest
import tifffile
from images_tools import COLOUR, GREY, save
from stack_tools import focal_planes, nuclei_and_others, write_ome

from nuclei.images.planes import find_channel, named_like_nuclei
from nuclei.images.reading import open_image, read_image

NUCLEI, CYTOPLASM, SPOTS, EMPTY, LABELS = nuclei_and_others()
CHANNELS = np.stack([CYTOPLASM, NUCLEI, SPOTS, EMPTY])
IMAGEJ = {"imagej": True, "metadata": {"axes": "CYX"}}


def grey(path, **options):
    image = read_image(path, **options)
    assert (image == image[..., :1]).all()
    return image[..., 0]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("kind", ["ome", "imagej", "plain", "last", "pages", "middle"])
def test_the_channel_that_looks_like_nuclei_is_taken_whatever_the_axes(tmp_path, count, kind):
    channels, path = CHANNELS[:count], tmp_path / "a.tif"
    last = np.ascontiguousarray(np.moveaxis(channels, 0, -1))
    if kind == "ome":
        path = write_ome(tmp_path / "a.ome.tif", channels, "CYX")
    elif kind == "imagej":
        save(path, channels, **IMAGEJ)
    elif kind == "plain":
        save(path, channels, photometric="minisblack")
    elif kind == "last":
        save(path, last, photometric="minisblack", planarconfig="contig")
    elif kind == "middle":
        save(path, np.ascontiguousarray(np.moveaxis(channels, 0, 1)), photometric="minisblack")
    else:
        save(path, last, photometric="minisblack")
    file = open_image(path)
    np.testing.assert_array_equal(file.image[..., 0], NUCLEI)
    assert any(f"2 of {count} is taken" in note and "--channel" in note for note in file.notes)


def test_four_channels_in_the_place_of_rgb_and_alpha_are_channels(tmp_path):
    planar = {"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["unassalpha"]}
    path = save(tmp_path / "a.tif", CHANNELS[[0, 1, 3, 2]], **planar)
    np.testing.assert_array_equal(grey(path), NUCLEI)


def test_a_channel_is_taken_by_name_or_number_and_a_wrong_one_is_refused_with_a_list(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", CHANNELS[:3], "CYX", ["Actin", "DAPI", "FISH"])
    for channel, index in (("fish", 2), ("1", 0), (2, 1), (None, 1), ("auto", 1)):
        np.testing.assert_array_equal(grey(path, channel=channel), CHANNELS[index])
    assert "channel 2 of 3 is taken, DAPI" in open_image(path).notes[0]
    for channel in ("GFP", "0", "4"):
        with pytest.raises(ValueError, match=f"no channel {channel}; .*1 Actin, 2 DAPI, 3 FISH"):
            read_image(path, channel=channel)


def test_a_name_like_dapi_comes_before_the_looks(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif", CHANNELS[:2], "CYX", ["Hoechst 33342", "GFP"])
    np.testing.assert_array_equal(grey(path), CYTOPLASM)
    for names, expected in (
        (["FITC", "dsDNA"], 1),
        (["mtDNA", "H2B-mCherry"], 1),
        (["nucleoli", "405"], 1),
        (["SYTO 13", "cyto"], 0),
        (["FITC", "Cy5"], None),
    ):
        assert named_like_nuclei(names) == expected
    assert find_channel("a", ["b", "B2"], "b2") == 1


def test_labels_of_imagej_name_the_channels(tmp_path):
    labels = {"axes": "CYX", "Labels": ["Hoechst", "c:2/2 GFP"]}
    path = save(tmp_path / "a.tif", CHANNELS[:2], imagej=True, metadata=labels)
    np.testing.assert_array_equal(grey(path), CYTOPLASM)


def test_colours_stay_colours_and_have_channels_when_asked(tmp_path):
    planes = np.ascontiguousarray(np.moveaxis(COLOUR, -1, 0))
    path = write_ome(tmp_path / "a.ome.tif", planes, "CYX")
    np.testing.assert_array_equal(read_image(path), COLOUR)
    names = ["Red", "Green", "Blue"]
    np.testing.assert_array_equal(
        read_image(write_ome(tmp_path / "b.ome.tif", planes // 9, "CYX", names)), COLOUR // 9
    )
    path = save(tmp_path / "c.png", COLOUR)
    np.testing.assert_array_equal(grey(path, channel="Blue"), COLOUR[..., 2])
    with pytest.raises(ValueError, match="no channel DAPI; it has 1 red, 2 green, 3 blue"):
        read_image(path, channel="DAPI")


def test_a_file_of_one_channel_says_that_the_flags_change_nothing(tmp_path):
    file = open_image(save(tmp_path / "a.png", GREY), channel="DAPI", plane="max")
    assert "--channel DAPI changes nothing" in file.notes[0]
    assert "--plane max changes nothing" in file.notes[1]
    with pytest.raises(ValueError, match="no channel 2; it has one"):
        read_image(tmp_path / "a.png", channel="2")


@pytest.mark.parametrize("axes", ["ZYX", "pages"])
def test_the_sharpest_focal_plane_is_taken_or_the_one_that_is_asked_for(tmp_path, axes):
    planes = focal_planes(NUCLEI)
    if axes == "ZYX":
        path = write_ome(tmp_path / "a.ome.tif", planes, axes)
    else:
        path = save(tmp_path / "a.tif", planes, photometric="minisblack")
    file = open_image(path)
    np.testing.assert_array_equal(file.image[..., 0], NUCLEI)
    assert file.plane == 2 and "2 of 3 " in file.notes[0] and "--plane" in file.notes[0]
    np.testing.assert_array_equal(grey(path, plane="3"), planes[2])
    np.testing.assert_array_equal(grey(path, plane="max"), planes.max(axis=0))
    with pytest.raises(ValueError, match="no plane 4; it has 3: a number from 1, max or auto"):
        read_image(path, plane="4")


@pytest.mark.parametrize("axes", ["ZCYX", "CZYX"])
def test_a_z_stack_of_channels_and_times_becomes_one_plane(tmp_path, axes):
    stacks = np.stack([focal_planes(channel) for channel in CHANNELS[:2]])
    array = stacks if axes == "CZYX" else np.moveaxis(stacks, 0, 1)
    names = ["GFP", "DAPI"]
    path = write_ome(tmp_path / "a.ome.tif", np.ascontiguousarray(array), axes, names)
    file = open_image(path)
    np.testing.assert_array_equal(file.image[..., 0], NUCLEI)
    assert (file.channel, file.plane) == (2, 2)
    path = save(tmp_path / "b.tif", np.ascontiguousarray(array), photometric="minisblack")
    np.testing.assert_array_equal(grey(path), NUCLEI)  # without metadata: two are the channels
    times = np.stack([NUCLEI, CYTOPLASM])
    path = save(tmp_path / "c.tif", times, imagej=True, metadata={"axes": "TYX"})
    assert "image 1 of 2 of the time series" in open_image(path).notes[0]
    np.testing.assert_array_equal(grey(path), NUCLEI)


def test_pages_may_be_called_channels_or_planes(tmp_path):
    path = save(tmp_path / "a.tif", CHANNELS, photometric="minisblack")
    assert "does not say whether its pages are channels or a z-stack" in open_image(path).notes[0]
    np.testing.assert_array_equal(grey(path, channel="3"), SPOTS)
    np.testing.assert_array_equal(grey(path, plane="4"), EMPTY)


def test_a_stack_of_colours_takes_its_sharpest_page(tmp_path):
    pages = np.stack([COLOUR // 2 + 100, COLOUR])
    path = save(tmp_path / "a.tif", pages, photometric="rgb")
    np.testing.assert_array_equal(read_image(path), COLOUR)


def test_a_large_stack_is_unpacked_into_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("nuclei.images.tiff.HELD_BYTES", 1000)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, CHANNELS, photometric="minisblack", compression="zlib")
    np.testing.assert_array_equal(grey(path), NUCLEI)
