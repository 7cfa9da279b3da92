"""The preview: which crops it shows, and that right and wrong nuclei differ in colour."""

import numpy as np
from training_samples import sample

from nuclei.results.pictures import OUTLINE_COLOUR
from nuclei.training.preview import (
    GAP_PX,
    LINE_PX,
    MIN_COLUMN_PX,
    MISTAKE_COLOUR,
    Crop,
    draw_preview,
    preview_batch,
    preview_crops,
)


def test_crops_come_from_all_modalities_and_show_nuclei():
    samples = [sample(), sample(), sample(), sample(), sample("tissue")]
    crops = preview_crops(samples, 96)
    assert len(crops) == 3
    assert np.ptp(crops[1].image, axis=-1).mean() > np.ptp(crops[0].image, axis=-1).mean()
    for image, labels in crops:
        assert image.shape == (96, 96, 3) and labels.shape == (96, 96)
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
        assert (labels > 0).mean() > 0.1


def test_small_images_are_continued_for_the_network_only():
    crops = preview_crops([sample()], 512)
    height, width = crops[0].labels.shape
    assert max(height, width) < 512
    batch = preview_batch(crops, 512)
    assert batch.shape == (1, 512, 512, 3)
    np.testing.assert_array_equal(batch[0, :height, :width], crops[0].image)


def squares(*corners):
    """Labels of squares of 20 px."""
    labels = np.zeros((80, 90), np.int32)
    for index, (top, left) in enumerate(corners, start=1):
        labels[top : top + 20, left : left + 20] = index
    return labels


def colours_in(part):
    """Which of the two colours of outlines a part of a page shows."""
    return {c for c in (OUTLINE_COLOUR, MISTAKE_COLOUR) if (part == c).all(-1).any()}


def test_found_missed_and_false_nuclei_can_be_told_apart():
    crop = Crop(np.full((80, 90, 3), 0.5, np.float32), squares((5, 5), (50, 10)))
    predicted = np.pad(squares((6, 6), (40, 60)), ((0, 16), (0, 6)))  # the network saw more
    page = draw_preview([crop], [predicted], "after epoch 1 of 2")
    assert page.dtype == np.uint8 and page.ndim == 3
    rows = page[LINE_PX : LINE_PX + 80]
    columns = [GAP_PX + number * (MIN_COLUMN_PX + GAP_PX) for number in range(3)]
    image, truth, prediction = (rows[:, left : left + 90] for left in columns)
    assert (image == 127).all()
    green, red = {OUTLINE_COLOUR}, {MISTAKE_COLOUR}
    assert colours_in(truth[:40]) == green and colours_in(truth[40:]) == red
    assert colours_in(prediction[:, :45]) == green and colours_in(prediction[:, 45:]) == red
    assert colours_in(page[LINE_PX + 80 :]) == green | red  # the legend


def test_a_prediction_of_nothing_is_drawn():
    empty = np.zeros((80, 90), np.int32)
    crop = Crop(np.zeros((80, 90, 3), np.float32), squares((5, 5)))
    page = draw_preview([crop, crop._replace(labels=empty)], [empty, empty], "now")
    assert colours_in(page[LINE_PX : LINE_PX + 80]) == {MISTAKE_COLOUR}
