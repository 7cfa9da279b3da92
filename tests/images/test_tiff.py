"""TIFF files of all flavours become the image that they stand for."""

import numpy as np
import pytest
import tifffile
from images_tools import COLOUR, GREY, discs, save
from PIL import Image
from skimage.color import rgb2lab

from nuclei.images.modality import modality
from nuclei.images.reading import open_image, read_image
from nuclei.images.tiff import plain_axes
from nuclei.truth.masks import read_truth


@pytest.mark.parametrize("order", ["thumbnail first", "thumbnail last"])
@pytest.mark.parametrize("thumbnail", [COLOUR[::4, ::4], GREY[::4, ::4]])
def test_a_thumbnail_is_passed_over(tmp_path, order, thumbnail):
    pictures = [np.ascontiguousarray(thumbnail), GREY]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for picture in pictures if order == "thumbnail first" else pictures[::-1]:
            tiff.write(picture, photometric="rgb" if picture.ndim == 3 else "minisblack")
    file = open_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(file.image[..., 0], GREY)
    assert not file.notes


def test_of_equal_images_the_first_is_taken_with_a_line(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
        for picture in (GREY, GREY[::-1]):
            tiff.write(np.ascontiguousarray(picture), photometric="minisblack")
    file = open_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(file.image[..., 0], GREY)
    assert "image 1 of 2 in the file" in file.notes[0]


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_alpha_of_a_grey_image_is_dropped(tmp_path, kind, dtype):
    grey = GREY.astype(dtype) * (1 if dtype == np.uint8 else 200)
    array = np.dstack([grey, np.full(GREY.shape, np.iinfo(dtype).max, dtype)])
    options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [kind]}
    image = read_image(save(tmp_path / "a.tif", array, **options))
    np.testing.assert_array_equal(image[..., 1], grey)


def test_ink_becomes_light(tmp_path):
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "a.tif")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").astype(int), COLOUR, atol=2)
    deep = (255 - COLOUR.astype(np.uint16)) * 257
    deep = np.dstack([deep, np.zeros(GREY.shape, np.uint16)])
    image = read_image(save(tmp_path / "b.tif", deep, photometric="separated"))
    np.testing.assert_allclose(image / 257, COLOUR, atol=1)
    assert modality(read_image(tmp_path / "a.tif")) == "tissue"


@pytest.mark.parametrize("photometric", ["cielab", "icclab"])
def test_cielab_becomes_rgb(tmp_path, photometric):
    lab = rgb2lab(COLOUR)
    chroma = lab[..., 1:].round()
    lightness = (lab[..., :1] * 2.55).round().astype(np.uint8)
    stored = (chroma + 128).astype(np.uint8) if photometric == "icclab" else chroma.astype(np.int8)
    array = np.concatenate([lightness, stored.view(np.uint8)], axis=-1)
    image = read_image(save(tmp_path / "a.tif", array, photometric=photometric))
    np.testing.assert_allclose(image.astype(int), COLOUR, atol=5)


def test_kinds_that_cannot_be_read_right_are_refused_by_name(tmp_path):
    array = np.zeros((40, 50), np.uint16)
    with pytest.raises(ValueError, match="a.tif is a TIFF of the kind CFA; expected grey, RGB"):
        read_image(save(tmp_path / "a.tif", array, photometric="cfa"))
    flat = np.zeros((40, 50, 4), np.float32)
    with pytest.raises(ValueError, match="SEPARATED .*expected 4 samples of 8 or 16 bits"):
        read_image(save(tmp_path / "b.tif", flat, photometric="separated"))


def test_uncompressed_ycbcr_becomes_rgb(tmp_path):
    ycbcr = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    options = {"photometric": "ycbcr", "subsampling": (1, 1), "compression": None}
    path = save(tmp_path / "a.tif", ycbcr, **options)
    np.testing.assert_allclose(read_image(path).astype(int), COLOUR, atol=3)


def test_channels_that_are_compressed_are_read_without_imagecodecs(tmp_path, monkeypatch):
    from tifffile import _imagecodecs  # what tifffile does itself where the package is missing

    pages = [Image.fromarray(GREY), Image.fromarray(GREY // 3)]
    pages[0].save(
        tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw"
    )
    monkeypatch.setattr(tifffile.tifffile, "imagecodecs", _imagecodecs)
    monkeypatch.setattr(tifffile.TIFF.DECOMPRESSORS, "_codecs", {})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channel="2")[..., 0], GREY // 3)


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("QYX", (3, 60, 80), ("QYX", (3, 60, 80))),
        ("QYX", (60, 80, 2), ("YXC", (60, 80, 2))),
        ("QYX", (60, 2, 80), ("YCX", (60, 2, 80))),
        ("QQYX", (9, 2, 60, 80), ("ZCYX", (9, 2, 60, 80))),
        ("QQYX", (2, 9, 60, 80), ("CZYX", (2, 9, 60, 80))),
        ("QQYX", (7, 60, 80, 4), ("ZYXC", (7, 60, 80, 4))),
        ("TCYXS", (1, 1, 60, 80, 3), ("YXS", (60, 80, 3))),
        ("IYX", (5, 60, 80), ("QYX", (5, 60, 80))),
    ],
)
def test_axes_of_unknown_meaning_get_one(axes, shape, expected):
    assert plain_axes(axes, shape) == expected


@pytest.fixture
def by_pillow(monkeypatch):
    """From its call on tifffile decodes nothing, as where a compression needs imagecodecs."""

    def needs_a_package(*_, **__):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    return lambda: monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", needs_a_package)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("picture", [GREY[:60], COLOUR[:60]])
def test_a_turned_image_is_turned_once_whoever_decodes_it(
    tmp_path, by_pillow, orientation, picture
):
    picture = np.ascontiguousarray(picture)
    assert picture.shape[0] != picture.shape[1]
    tag = [(274, "H", 1, orientation, True)]
    colours = "rgb" if picture.ndim == 3 else "minisblack"
    options = {"photometric": colours, "extratags": tag, "compression": "zlib"}
    tifffile.imwrite(tmp_path / "a.tif", picture, **options)
    expected = read_image(tmp_path / "a.tif")
    assert (expected.shape[:2] == picture.shape[:2]) == (orientation < 5)
    by_pillow()
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("planes", ["separate", "contig"])
def test_colours_in_planes_of_their_own_are_colours_for_pillow_too(tmp_path, by_pillow, planes):
    array = np.moveaxis(COLOUR, -1, 0) if planes == "separate" else COLOUR
    path = save(tmp_path / "a.tif", array, photometric="rgb", planarconfig=planes)
    by_pillow()
    np.testing.assert_array_equal(read_image(path), COLOUR)


@pytest.mark.parametrize("is_dark", [False, True])
def test_a_palette_tells_the_same_whoever_decodes_it(tmp_path, by_pillow, is_dark):
    """Old writers give a palette 8 bits in place of 16, and ids may have one that is all black."""
    labels = discs().astype(np.uint8)
    step = 0 if is_dark else 40
    palette = np.tile((np.arange(256) * step % 256).astype(np.uint16), (3, 1))
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, labels, photometric="palette", colormap=palette)
    truths = [read_truth(path)]
    if not is_dark:
        assert read_image(path).max() > 100
    by_pillow()
    truths.append(read_truth(path))
    for truth in truths:
        np.testing.assert_array_equal(truth.labels > 0, labels > 0)
        assert truth.labels.max() == labels.max()


@pytest.mark.parametrize(
    "xml",
    [
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><BinaryOnly '
        'MetadataFile="a.companion.ome" UUID="urn:uuid:1"/></OME>',
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"></OME>',
    ],
)
def test_ome_xml_without_pixels_costs_no_image(tmp_path, xml):
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY, description=xml, metadata=None)
    file = open_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(file.image[..., 0], GREY)
    assert file.mpp is None


def test_the_name_of_a_single_channel_counts(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, GREY[None], metadata={"axes": "CYX", "Channel": {"Name": ["GFP"]}})
    assert not [note for note in open_image(path, channel="gfp").notes if "without a name" in note]
    with pytest.raises(ValueError, match="no channel DAPI; it has 1 GFP"):
        open_image(path, channel="DAPI")
