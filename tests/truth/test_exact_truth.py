"""Truth of few values, borders, void, soft edges and suspect ids, each drawn in several ways."""

import cv2
import numpy as np
import pytest
from images_tools import discs, fluorescence, is_without_gaps, same_partition, save
from PIL import Image
from scipy import ndimage
from truth_tools import COLOURS, LABELS, PAIRS, inner_rim

from nuclei.truth.masks import read_truth

NUM_PAIRS = int(PAIRS.max())
RED_OR_GREEN = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0]], np.uint8)
CLASSES = np.r_[0, 1 + np.arange(25) % 3].astype(np.uint8)


def alternating(num_values):
    return np.r_[0, 1 + np.arange(NUM_PAIRS) % num_values].astype(np.uint8)[PAIRS]


@pytest.mark.parametrize(
    "array",
    [
        alternating(2),
        alternating(3),
        alternating(2) * 127,
        alternating(2).astype(np.uint16),
        RED_OR_GREEN[alternating(2)],
        np.dstack(
            [alternating(2)]
            + [np.zeros(PAIRS.shape, np.uint8)] * 2
            + [np.full(PAIRS.shape, 255, np.uint8)]
        ),
    ],
)
def test_a_few_values_that_tell_touching_nuclei_apart(tmp_path, array):
    truth = read_truth(save(tmp_path / "a.png", array.astype(array.dtype.type)))
    assert truth.form == "few values" and is_without_gaps(truth.labels)
    assert same_partition(truth.labels, PAIRS)
    assert "background" in truth.meaning and "each region of equal value" in truth.meaning


def test_classes_are_regions_and_stray_pixels_join_them(tmp_path):
    classes = CLASSES[LABELS]
    truth = read_truth(save(tmp_path / "a.png", classes))
    assert truth.form == "few values" and same_partition(truth.labels, LABELS)
    rows, columns = np.nonzero(ndimage.binary_erosion(LABELS > 0, iterations=2))
    chosen = np.random.default_rng(1).choice(len(rows), 40, replace=False)
    classes[rows[chosen], columns[chosen]] = 1 + classes[rows[chosen], columns[chosen]] % 3
    truth = read_truth(save(tmp_path / "a.png", classes))
    assert same_partition(truth.labels, LABELS) and truth.repaired > 0


def test_ids_with_stray_pixels_keep_their_ids(tmp_path):
    few = discs(96, 112, count=4, radius=9)
    ids = few.astype(np.uint8)
    ids[[3, 5, 90, 91], [3, 80, 3, 100]] = 1, 2, 3, 4
    truth = read_truth(save(tmp_path / "a.png", ids))
    assert truth.form == "instances" and (truth.labels == ids).all() and truth.meaning == ""


def border_values(interior, border, background=0):
    return np.array([background, interior, border], np.uint8)


@pytest.mark.parametrize("width_px", [1, 2, 4])
@pytest.mark.parametrize(
    "values",
    [
        border_values(1, 2),
        border_values(255, 127),
        border_values(127, 255),
        border_values(1, 3, background=2),
        np.array([[0, 0, 255], [255, 0, 0], [0, 255, 0]], np.uint8),
    ],
)
def test_a_thin_rim_is_a_border_and_belongs_to_the_nearest_nucleus(tmp_path, values, width_px):
    parts = np.where(inner_rim(PAIRS, width_px), 2, PAIRS > 0)
    truth = read_truth(save(tmp_path / "a.png", values[parts]))
    assert truth.form == "instances" and truth.labels.max() == NUM_PAIRS
    assert ((truth.labels > 0) == (PAIRS > 0)).all() and "border" in truth.meaning
    assert np.mean(truth.labels != PAIRS) < 0.02


def test_borders_among_ids_and_lines_between_nuclei(tmp_path):
    rim = inner_rim(PAIRS, 2)
    with_ids = read_truth(save(tmp_path / "ids.png", np.where(rim, 255, 3 * PAIRS).astype("u1")))
    assert with_ids.labels.max() == NUM_PAIRS and "255 border" in with_ids.meaning
    inside = PAIRS > 0
    line = np.zeros(PAIRS.shape, bool)
    for axis in (0, 1):
        for shift in (-2, -1, 1, 2):
            other = np.roll(PAIRS, shift, axis)
            line |= inside & (other > 0) & (other != PAIRS)
    contacts = read_truth(save(tmp_path / "line.png", np.where(line, 2, inside).astype("u1")))
    assert same_partition(contacts.labels > 0, inside) and contacts.labels.max() == NUM_PAIRS


def test_narrow_nuclei_with_ids_are_no_borders(tmp_path):
    ids = np.zeros((60, 80), np.uint8)
    ids[10:50, 10:30], ids[10:50, 30:33], ids[10:50, 33:60] = 1, 2, 3
    truth = read_truth(save(tmp_path / "a.png", ids))
    assert truth.form == "instances" and (truth.labels == ids).all()


VOID = np.zeros(LABELS.shape, bool)
VOID[150:, 150:] = True


@pytest.mark.parametrize(
    ("array", "form"),
    [
        (np.where(VOID, 255, LABELS > 0).astype(np.uint8), "binary"),
        (np.where(VOID, 255, CLASSES[LABELS]).astype(np.uint8), "few values"),
        (np.where(VOID, 255, LABELS).astype(np.uint8), "instances"),
        (np.where(VOID, 65535, LABELS).astype(np.uint16), "instances"),
    ],
)
def test_255_beside_small_numbers_is_void(tmp_path, array, form):
    array = np.where(VOID | ~np.isin(LABELS, LABELS[VOID]), array, 0).astype(array.dtype)
    truth = read_truth(save(tmp_path / "a.png", array))
    assert truth.form == form and (truth.void == VOID).all() and "void" in truth.meaning
    assert not truth.labels[VOID].any()
    assert same_partition(truth.labels, np.where(VOID | (array == 0), 0, LABELS))


def test_the_user_names_void(tmp_path):
    path = save(tmp_path / "a.png", np.where(VOID, 7, LABELS > 0).astype(np.uint8))
    assert read_truth(path).void is None
    assert (read_truth(path, ignore=(7,)).void == VOID).all()
    path = save(tmp_path / "a.tif", np.where(VOID, -1, LABELS).astype(np.int32))
    with pytest.raises(ValueError, match="negative.*--ignore -1"):
        read_truth(path)
    assert (read_truth(path, ignore=(-1,)).void == VOID).all()
    grey = np.where(VOID, 90, LABELS > 0).astype(np.uint8)
    path = save(tmp_path / "b.png", np.dstack([grey, np.where(VOID, 90, 0).astype("u1"), grey]))
    assert (read_truth(path, ignore=(90,)).void == VOID).all()
    nothing = read_truth(save(tmp_path / "c.png", np.where(VOID, 9, 0).astype("u1")), ignore=(9,))
    assert nothing.form == "empty" and (nothing.void == VOID).all()


def enlarged(array, how=cv2.INTER_LINEAR):
    return cv2.resize(array, None, fx=2, fy=2, interpolation=how)


@pytest.mark.parametrize("how", [cv2.INTER_LINEAR, cv2.INTER_CUBIC])
def test_soft_edges_of_ids_and_colours_are_made_hard(tmp_path, how):
    exact = enlarged(LABELS.astype(np.uint8), cv2.INTER_NEAREST)
    white = COLOURS.copy()
    white[0] = 255
    one_red = np.where(LABELS[..., None] > 0, [200, 10, 20], 0).astype(np.uint8)
    ids = np.linspace(0, 250, 26).astype(np.uint8)[LABELS]
    for array in (COLOURS[LABELS], white[LABELS], one_red, ids):
        truth = read_truth(save(tmp_path / "a.png", enlarged(array, how)))
        assert truth.labels.max() == 25 and truth.repaired > 0.01
        assert np.mean((truth.labels > 0) != (exact > 0)) < 0.01
    pairs = read_truth(save(tmp_path / "a.png", enlarged(COLOURS[PAIRS])))
    assert pairs.labels.max() == NUM_PAIRS


def test_the_background_may_have_another_value(tmp_path):
    white = COLOURS.copy()
    white[0], white[7] = 255, 0  # one nucleus is black
    grey = np.where(LABELS > 0, LABELS - 1, 255).astype(np.uint8)
    for array in (white[LABELS], grey, np.r_[5, np.arange(25) % 5].astype(np.uint8)[LABELS]):
        truth = read_truth(save(tmp_path / "a.png", array))
        assert same_partition(truth.labels, LABELS)
        assert "255" in truth.meaning or truth.meaning.startswith("5 background")


@pytest.mark.parametrize("count", [300, 400, 700])
def test_ids_of_8_bits_are_named(tmp_path, count):
    labels = discs(512, 512, count=count, radius=5)
    cut = read_truth(save(tmp_path / "a.png", np.minimum(labels, 255).astype(np.uint8)))
    assert "one id, 255, lies in" in cut.warning and cut.labels.max() == count
    wrapped = read_truth(save(tmp_path / "a.png", (labels % 256).astype(np.uint8)))
    assert "wrapped" in wrapped.warning and wrapped.labels.max() == count - count // 256
    deep = read_truth(save(tmp_path / "a.png", labels.astype(np.uint16)))
    assert deep.warning == "" and deep.labels.max() == count


def test_ids_that_lie_in_many_places_are_named(tmp_path):
    labels = discs(300, 300, count=36, radius=8)
    ids = np.where(labels > 30, labels - 30, labels)  # six ids twice
    ids = np.where((ids > 6) & (ids < 10), 3, ids)
    assert read_truth(save(tmp_path / "a.png", labels.astype(np.uint8))).warning == ""
    truth = read_truth(save(tmp_path / "a.png", ids.astype(np.uint8)))
    assert "lies in many places" in truth.warning and truth.labels.max() == 36


def test_the_shape_may_lie_in_alpha(tmp_path):
    shape = (LABELS > 0) * np.uint8(255)
    white, constant = np.full((*LABELS.shape, 3), 255, np.uint8), np.full(LABELS.shape, 255, "u1")
    for array in (np.dstack([white, shape]), np.dstack([white * 0, shape])):
        truth = read_truth(save(tmp_path / "a.png", array))
        assert same_partition(truth.labels, LABELS) and "alpha" in truth.meaning
    Image.fromarray(np.dstack([constant, shape]), "LA").save(tmp_path / "la.png")
    assert same_partition(read_truth(tmp_path / "la.png").labels, LABELS)
    clear = np.where(LABELS[..., None] > 0, COLOURS[LABELS], fluorescence(LABELS)[..., None])
    truth = read_truth(save(tmp_path / "a.png", np.dstack([clear.astype("u1"), shape])))
    assert same_partition(truth.labels, LABELS) and "transparent" in truth.meaning
    truth = read_truth(save(tmp_path / "a.png", np.dstack([COLOURS[LABELS], constant])))
    assert same_partition(truth.labels, LABELS) and truth.meaning == ""


@pytest.mark.parametrize("nucleus", [1, 2])
def test_of_two_labels_without_0_the_surrounding_one_is_the_background(tmp_path, nucleus):
    values = np.where(LABELS > 0, nucleus, 3 - nucleus).astype(np.uint8)  # as ilastik exports
    truth = read_truth(save(tmp_path / "a.png", values))
    assert same_partition(truth.labels, LABELS)
    assert truth.meaning == f"{3 - nucleus} background; {nucleus} nuclei"
