"""Flat borders and one bright thing decide neither grey levels nor the kind of an image."""

import cv2
import numpy as np
import pytest
from images_tools import discs, tissue
from synthetic import draw

from nuclei.images.intensity import intensity_range
from nuclei.images.modality import modality
from nuclei.images.outliers import with_mirrored_border, without_bright_thing, without_flat_border


def dim_field(seed=0):
    """(300, 320, 3) uint8: thirty nuclei of at most 45 grey levels."""
    image = draw("fluorescence", 300, 320, num_nuclei=30, diameter=20, seed=seed)[0]
    return (image.astype(float) / image.max() * 40 + 5).astype(np.uint8)


def with_thing(image, kind):
    """The field with one thing of 255 grey levels."""
    image = image.copy()
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    if kind == "scale bar":
        cv2.rectangle(image, (220, 270), (300, 278), (255,) * 3, -1)
        cv2.putText(image, "50 um", (225, 262), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255,) * 3, 2)
    elif kind == "fibre":
        image[np.abs(rows - 100 - 30 * np.sin(columns / 50)) < 4] = 255
    elif kind == "debris":
        image[(rows - 100) ** 2 + (columns - 90) ** 2 < 24**2] = 255
    else:
        image[rows + columns < 60] = 255
    return image


@pytest.mark.parametrize("kind", ["scale bar", "fibre", "debris", "corner"])
@pytest.mark.parametrize("depth", [1, 257])
def test_one_bright_thing_does_not_rule_the_range(kind, depth):
    field = dim_field()
    expected = intensity_range(field.astype(np.uint16) * depth if depth > 1 else field)
    image = with_thing(field, kind)
    image = image.astype(np.uint16) * depth if depth > 1 else image
    low, high = intensity_range(image)
    assert high == pytest.approx(expected[1], rel=0.1) and low <= expected[0]


@pytest.mark.parametrize("kind", ["scale bar", "fibre", "debris", "corner"])
@pytest.mark.parametrize("border", [0, 255])
def test_a_bright_thing_is_found_beside_a_border_too(kind, border):
    field = dim_field()
    mosaic = framed(with_thing(field, kind), border)
    assert intensity_range(mosaic)[1] == pytest.approx(intensity_range(field)[1], rel=0.1)


@pytest.mark.parametrize("counts", [10, 30, 100])
@pytest.mark.parametrize("side_px", [20, 50, 90])
def test_a_saturated_thing_does_not_make_dim_nuclei_of_16_bits_a_border(counts, side_px):
    image = dim_field().astype(np.uint16) * np.uint16(counts)
    expected = intensity_range(image)
    image[30 : 30 + side_px, 30 : 30 + side_px] = 65535
    assert without_flat_border(image) is None
    assert modality(image) == "fluorescence"
    assert intensity_range(image)[1] == pytest.approx(expected[1], rel=0.1)
    mosaic = tissue(discs(300, 320, count=30)).astype(np.uint16) * np.uint16(257)
    mosaic[:, :100] = 0
    assert without_flat_border(mosaic) is not None


@pytest.mark.parametrize("large", [1, 4])
def test_an_only_nucleus_and_bright_nuclei_keep_their_range(large):
    rows, columns = np.mgrid[:200, :200]
    single = np.random.default_rng(0).normal(10, 2, (200, 200))
    single[(rows - 90) ** 2 + (columns - 80) ** 2 < (15 * large) ** 2] += 150
    single = np.dstack([single.clip(0, 255).astype(np.uint8)] * 3)
    assert intensity_range(single)[1] > 150
    field = dim_field()
    halves = np.hstack([field, np.minimum(field.astype(int) * 5, 255).astype(np.uint8)])
    assert without_bright_thing(halves, *map(float, (0, 220))) is None


def test_a_thing_in_an_empty_field_is_the_nucleus():
    empty = np.random.default_rng(0).integers(4, 12, (300, 320, 1)).astype(np.uint8)
    image = with_thing(np.repeat(empty, 3, axis=2), "debris")
    assert intensity_range(image)[1] == 255


def framed(image, value, rows=110, columns=60):
    frame = np.full((image.shape[0] + rows, image.shape[1] + columns, 3), value, image.dtype)
    frame[rows // 2 : rows // 2 + image.shape[0], : image.shape[1]] = image
    return frame


@pytest.mark.parametrize("white", [255, 4000])
@pytest.mark.parametrize("kind", ["tissue", "fluorescence"])
def test_a_border_decides_neither_range_nor_modality(kind, white):
    image = tissue(discs()) if kind == "tissue" else draw(kind, 96, 112, num_nuclei=9, seed=1)[0]
    border = 0 if kind == "tissue" else white
    if white > 255:
        image = image.astype(np.uint16) * (white // 256)
    mosaic = framed(image, border)
    assert modality(mosaic) == modality(image) == kind
    assert intensity_range(mosaic) == intensity_range(image)
    inside = without_flat_border(mosaic)
    assert inside.sum() == image.shape[0] * image.shape[1]
    mirrored = with_mirrored_border(mosaic, inside)
    np.testing.assert_array_equal(mirrored[inside], mosaic[inside])
    np.testing.assert_array_equal(mirrored[54, :112], image[1])


def test_what_is_no_brighter_than_noise_is_not_stretched_beside_debris():
    field = dim_field()
    faint = (field.astype(float) / field.max() * 9 + 5).astype(np.uint8)
    image = with_thing(faint, "debris")
    assert without_bright_thing(image, *intensity_range(image)) is not None
    assert intensity_range(image)[1] == 255


def test_a_jpeg_border_and_an_oblique_one_count_too():
    image = framed(tissue(discs(400, 400, 60, 12)), 0, 200, 200)
    turn = cv2.getRotationMatrix2D((300, 300), 12, 1)
    oblique = cv2.warpAffine(image, turn, image.shape[1::-1])
    jpeg = cv2.imdecode(cv2.imencode(".jpg", oblique[..., ::-1])[1], cv2.IMREAD_COLOR)[..., ::-1]
    for mosaic in (oblique, jpeg):
        assert modality(mosaic) == "tissue" and intensity_range(mosaic)[0] > 40


@pytest.mark.parametrize("kind", ["tissue", "fluorescence", "brightfield"])
@pytest.mark.parametrize("seed", range(3))
def test_an_image_without_a_border_counts_as_a_whole(kind, seed):
    image = draw(kind, 200, 220, num_nuclei=25, seed=seed)[0]
    image = image if image.ndim == 3 else np.dstack([image] * 3)
    assert without_flat_border(image) is None
    cut = np.where(image > np.percentile(image, 70), image, 0)  # a background that was set to 0
    if kind == "fluorescence":
        assert without_flat_border(cut.astype(np.uint8)) is None
