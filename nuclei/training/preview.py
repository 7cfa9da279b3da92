"""preview.jpg: what the network finds in some validation images, beside the truth.

    crops = preview_crops(data.validating, size=256)
    labels = [separate(maps, **thresholds) for maps in predict(preview_batch(crops, 256))]
    write_jpeg(run.preview, draw_preview(crops, labels, "after epoch 3 of 30"))

The outlines of nuclei that prediction and truth have in common are green, those that only one of
them has are red.
"""

from collections import defaultdict
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from nuclei.images.resize import Resized
from nuclei.instances.matching import match, matched_pairs
from nuclei.results.pictures import OUTLINE_COLOUR, draw_outlines
from nuclei.training.geometry import scale_to_diameter
from nuclei.training.validation import grid, window

NUM_CROPS = 3  # rows of the preview: each costs the time of a step of the training
MISTAKE_COLOUR = (255, 0, 60)  # RGB; darker than OUTLINE_COLOUR, too, for colour-blind people
GAP_PX, LINE_PX, FONT_PX = 8, 24, 15  # between pictures; height of a line of text, and its letters
MIN_COLUMN_PX = 200  # below that, headings and legend are wider than the pictures
PAGE_SHADE, TEXT_SHADE = 32, 235  # grey levels
LEGEND = (
    (OUTLINE_COLOUR, "in the truth and in the prediction (they share half their area or more)"),
    (MISTAKE_COLOUR, "middle: missed. Right: predicted, but not in the truth"),
)


class Crop(NamedTuple):
    """A part of a validation image, at the scale of the training.

    Attributes:
        image: (h, w, 3) float32 in [0, 1].
        labels: (h, w) int32, the truth.
    """

    image: np.ndarray
    labels: np.ndarray


def preview_crops(samples, size):
    """Choose the crops of a preview: from all modalities, each where most of it is nucleus.

    Args:
        samples: list of `Sample`, the validation images.
        size: height and width of a crop at most.

    Returns:
        A list of NUM_CROPS `Crop`s at most.
    """
    groups = defaultdict(list)
    for sample in samples:
        groups[sample.group].append(sample)
    # One image of each modality, then a second one of each.
    in_turn = [sample for row in zip_longest(*groups.values()) for sample in row if sample]
    crops = []
    for sample in in_turn[:NUM_CROPS]:
        scaled = Resized(sample.image, scale_to_diameter(sample.diameter_px))
        parts = (window(sample, scaled, size, corner) for corner in grid(scaled.shape, size))
        parts = (Crop(image, sample.labels[place]) for image, place in parts)
        crops.append(max(parts, key=lambda crop: np.count_nonzero(crop.labels)))
    return crops


def preview_batch(crops, size):
    """The images of crops, (N, size, size, 3) float32, continued as in a mirror where smaller."""
    return np.stack(
        [
            np.pad(image, [(0, size - length) for length in image.shape[:2]] + [(0, 0)], "reflect")
            for image, _ in crops
        ]
    )


def draw_preview(crops, predictions, when):
    """Draw image, truth and prediction side by side, with a legend.

    Args:
        crops: list of `Crop`.
        predictions: list of (h, w) integers, labels that may be larger than the crop.
        when: ends the heading of the predictions, for example "after epoch 3 of 30".

    Returns:
        (H, W, 3) uint8 RGB.
    """
    width = max([MIN_COLUMN_PX] + [image.shape[1] for image, _ in crops])
    columns = [GAP_PX + number * (width + GAP_PX) for number in range(3)]
    heights = [image.shape[0] + LINE_PX + GAP_PX for image, _ in crops]
    shape = (LINE_PX + sum(heights) + LINE_PX * len(LEGEND) + GAP_PX, columns[-1] + width + GAP_PX)
    page = np.full((*shape, 3), PAGE_SHADE, np.uint8)
    headings = ("image", "truth", f"prediction {when}")
    lines = [(column, 0, text) for column, text in zip(columns, headings, strict=True)]
    top = LINE_PX
    for crop, predicted, height in zip(crops, predictions, heights, strict=True):
        *pictures, caption = draw_row(crop, predicted)
        for column, picture in zip(columns, pictures, strict=True):
            page[top : top + picture.shape[0], column : column + picture.shape[1]] = picture
        lines.append((columns[1], top + crop.image.shape[0], caption))
        top += height
    for colour, text in LEGEND:
        middle = top + LINE_PX // 2
        page[middle - 1 : middle + 1, GAP_PX : 4 * GAP_PX] = colour
        lines.append((5 * GAP_PX, top, text))
        top += LINE_PX
    return write_lines(page, lines)


def draw_row(crop, predicted):
    """The three pictures of a crop, (h, w, 3) uint8 RGB, and how many nuclei were found."""
    picture = (crop.image * 255).astype(np.uint8)
    predicted = predicted[: picture.shape[0], : picture.shape[1]]
    matching = match(crop.labels, predicted)
    pairs = matched_pairs(matching)
    truth_colours = colours_of(crop.labels, matching.truth_ids[pairs])
    predicted_colours = colours_of(predicted, matching.predicted_ids[pairs])
    num_found, num_true = len(matching.truth_ids[pairs]), matching.num_truth
    return (
        picture,
        draw_outlines(picture, crop.labels, truth_colours),
        draw_outlines(picture, predicted, predicted_colours),
        f"{num_found} of {num_true} nuclei found, {matching.num_predicted - num_found} false",
    )


def colours_of(labels, ids):
    """Colours for `draw_outlines`: green for the ids that both have, red for the others."""
    colours = np.full((int(labels.max(initial=0)) + 1, 3), MISTAKE_COLOUR, np.uint8)
    colours[ids] = OUTLINE_COLOUR
    return colours


def write_lines(page, lines):
    """Write lines of text, (column, row of the upper edge, text), on a page (H, W, 3) uint8 RGB."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(page)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_PX)
    for column, top, text in lines:
        middle = top + LINE_PX // 2
        pen.text((column, middle), text, (TEXT_SHADE,) * 3, font, anchor="lm")
    return np.asarray(picture)
