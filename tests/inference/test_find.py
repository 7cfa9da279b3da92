"""The options of a prediction: what becomes of the thresholds in the model file."""

from dataclasses import replace

import numpy as np
import pytest
from inference_tools import model_of

from nuclei.inference.find import Options, find_nuclei

THRESHOLDS = {"nucleus_threshold": 0.45, "min_probability": 0.75, "min_area_px": 45}
MODEL = replace(model_of(lambda batch: batch[..., :2]), thresholds=THRESHOLDS)  # maps are the image


def nuclei_of(image, **options):
    """Labels that are found in an image whose values are probabilities."""
    return find_nuclei((image * 255).astype(np.uint8), MODEL, Options(**options)).labels


def faint_nuclei():
    """Blurred nuclei, each fainter than the one before it: (H, W, 3) float64 in [0, 1]."""
    rows, columns = np.mgrid[:60, :400]
    image = np.zeros((60, 400))
    for number, peak in enumerate(np.linspace(1, 0.2, 8)):
        distance = (rows - 30) ** 2 + (columns - 25 - 50 * number) ** 2
        image = np.maximum(image, peak * np.exp(-((distance / 150) ** 6)))
    return np.repeat(image[..., None], 3, axis=-1)


def test_a_lower_threshold_finds_more_nuclei_and_a_higher_one_fewer():
    numbers = [
        nuclei_of(faint_nuclei(), threshold=threshold, scale=1.0).max()
        for threshold in (0.9, 0.75, 0.6, 0.45, 0.3, 0.2, 0.1)
    ]
    assert numbers == sorted(numbers) and numbers[0] < numbers[3] < numbers[4] < numbers[-1]
    assert nuclei_of(faint_nuclei(), scale=1.0).max() == numbers[3]  # the threshold of the model


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.0])
def test_a_least_area_counts_pixels_of_the_image_however_it_is_enlarged(scale):
    image = np.zeros((60, 120, 3))
    for number, side in enumerate((3, 6, 12)):
        image[20 : 20 + side, 20 + 30 * number : 20 + 30 * number + side] = 1
    few, more = (nuclei_of(image, min_area_px=area, scale=scale).max() for area in (90, 5))
    assert few == 1 and more == 3


@pytest.mark.parametrize("threshold", [0, 1, 1.5, -0.1, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ValueError, match="a threshold of .* came; expected one between 0 and 1"):
        Options(threshold=threshold)
