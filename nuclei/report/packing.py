"""Pictures, labels and measurements as text inside the page, small enough to mail.

Pictures are WebP in base64. Labels are run lengths and measurements are JSON, both deflated by
zlib, which a browser unpacks without a library. `pack_images` shares the space of the page among
the images: it takes the first of STEPS that fits.
"""

import base64
import json
import math
import zlib
from typing import NamedTuple

import cv2
import numpy as np

from nuclei.cli import Progress
from nuclei.images.intensity import normalise
from nuclei.images.labels import read_labels
from nuclei.images.reading import open_image
from nuclei.report.predictions import SLIDE
from nuclei.results.pictures import encode, find_labels

MAX_SIDE_PX = 2048  # of a picture in the page; a larger image is shown reduced
THUMBNAIL_PX = 192  # long side: 96 px on a screen of double density
THUMBNAIL_QUALITY = 60  # of WebP
# Size and WebP quality, best first. At 80 the edges of nuclei show no artefact, below 50 they do.
STEPS = ((1, 80), (1, 60), (0.7, 60), (0.5, 60), (0.35, 60), (0.25, 50), (0.125, 50))
LABEL_TYPE = "<u4"  # little endian, as in JavaScript on all current machines
SIGNIFICANT_DIGITS = 5  # of measurements in the page; nuclei.csv has the exact ones
MISSING_SHAPE = (1, 1)  # of the labels of a slide whose overview was not found
MEASURES_MB = 8  # of the page at most for measurements: enough for 80,000 nuclei with 41 columns
NO_MEASURES = ["image", "id", "nearest_id", "slide_id"]  # columns of nuclei.csv
# The page opens with these measurements; they are there even without room.
FIRST_MEASURES = (
    "diameter_px",
    "circularity",
    "area_px",
    "eccentricity",
    "confidence",
    "mean_probability",
    "mean_intensity",
)


class PackedImage(NamedTuple):
    """One image as text for the page."""

    picture: str  # WebP; empty where the image was not found
    labels: str  # run lengths, see `label_runs`
    height: int  # of the labels and of the picture, in px
    width: int
    thumbnail: str = ""  # WebP; empty where the image was not found

    @property
    def num_bytes(self):
        """Size in the page."""
        return len(self.picture) + len(self.labels) + len(self.thumbnail)


def read_picture(path, row):
    """Read an image as the network saw it, dark ones brightened.

    Args:
        path: of the image.
        row: of summary.csv.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: it has another size than the image that was predicted.
    """
    channel, plane = (str(row.get(name) or "") or None for name in ("channel", "plane"))
    image = open_image(path, channel, plane).image
    height, width = int(row["height_px"]), int(row["width_px"])
    if image.shape[:2] != (height, width):
        raise ValueError(
            f"{path} has {image.shape[1]}×{image.shape[0]} px, the predicted image had "
            f"{width}×{height}: it is another image of that name; give the right folder first: "
            "--images"
        )
    picture = normalise(image, (row["intensity_low"], row["intensity_high"]))
    picture *= 255
    return picture.astype(np.uint8)


def read_predicted_labels(folder, row):
    """Read the labels of one image.

    Args:
        folder: that predict.py wrote.
        row: of summary.csv.

    Returns:
        (H, W) int32, 0 background, 1…n.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it does not fit the row.
    """
    path = find_labels(folder / "labels", row["image"])
    labels = read_labels(path)
    height, width = int(row["height_px"]), int(row["width_px"])
    if labels.shape != (height, width) or int(labels.max()) != row["nuclei"]:
        raise ValueError(
            f"{path} has {labels.shape[1]}×{labels.shape[0]} px and ids up to {labels.max()}; "
            f"summary.csv says {width}×{height} px and {row['nuclei']:.0f} nuclei; run python "
            "predict.py --overwrite"
        )
    return labels


def read_pixels(row, path):
    """Read the picture of a row, and its labels.

    Args:
        row: of summary.csv.
        path: of its image, or None where it was not found.

    Returns:
        (picture, labels): (H, W, 3) uint8 RGB or None, and (H, W) int32. The overview of a slide
        has its nuclei in the picture, and no labels; it is smaller than the slide.
    """
    if row["part"] == SLIDE:
        picture = None if path is None else open_image(path).image
        shape = MISSING_SHAPE if path is None else picture.shape[:2]
        return picture, np.zeros(shape, np.int32)
    labels = read_predicted_labels(row["results"], row)
    return None if path is None else read_picture(path, row), labels


def resized(array, factor, interpolation):
    """An array (H, W, ...) whose sides are `factor` times as long, 1 px at least."""
    height, width = (max(1, round(side * factor)) for side in array.shape[:2])
    if (height, width) == array.shape[:2]:
        return array
    return cv2.resize(array, (width, height), interpolation=interpolation)


def webp(picture, quality):
    """Text of a picture (H, W, 3) uint8 RGB as WebP; quality: 0 to 100."""
    return base64.b64encode(encode(picture, ".webp", (cv2.IMWRITE_WEBP_QUALITY, quality))).decode()


def packed(content):
    """Text of some bytes: deflated by zlib, in base64."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def label_runs(labels):
    """Run lengths of a label image, rows joined end to end.

    Deflated, they are half the size of a PNG. The browser needs no canvas to read them; some
    browsers add noise to what a canvas returns, against tracking.

    Args:
        labels: (H, W) integers.

    Returns:
        bytes of 2 n numbers of LABEL_TYPE: n ids, then n lengths.
    """
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    return np.concatenate([flat[starts], lengths]).astype(LABEL_TYPE).tobytes()


def pack_image(picture, labels, space):
    """Encode one picture and its labels by the first of STEPS that fits.

    Args:
        picture: (H, W, 3) uint8, or None where the image was not found.
        labels: (H, W) int32.
        space: bytes for all parts together; the last of STEPS is taken even if it needs more.

    Returns:
        PackedImage.
    """
    thumbnail = ""
    if picture is not None:
        factor = min(1.0, THUMBNAIL_PX / max(labels.shape))
        thumbnail = webp(resized(picture, factor, cv2.INTER_AREA), THUMBNAIL_QUALITY)
    start = min(1.0, MAX_SIDE_PX / max(labels.shape))
    for factor, quality in STEPS:
        small = resized(labels, start * factor, cv2.INTER_NEAREST)
        code = ""
        if picture is not None:
            code = webp(resized(picture, start * factor, cv2.INTER_AREA), quality)
        image = PackedImage(code, packed(label_runs(small)), *small.shape, thumbnail)
        if image.num_bytes <= space:
            break
    return image


def pack_images(predictions, pictures, space):
    """Read and encode all images. Space that one image does not need is left to the next ones.

    Args:
        predictions: Predictions.
        pictures: dict of stem -> path of the image, where it was found.
        space: bytes for all images together.

    Returns:
        list of PackedImage, in the order of the rows.
    """
    images, rows = [], predictions.rows
    with Progress("Pictures", len(rows), "images") as progress:
        for number, row in enumerate(rows):
            picture, labels = read_pixels(row, pictures.get(row["image"]))
            image = pack_image(picture, labels, space / (len(rows) - number))
            images.append(image)
            space -= image.num_bytes
            progress.add(1)
    return images


def shortened(value):
    """A number with SIGNIFICANT_DIGITS for JSON; None where there is none."""
    number = float(value)
    if not math.isfinite(number):
        return None
    number = float(f"{number:.{SIGNIFICANT_DIGITS}g}")
    return int(number) if number.is_integer() else number


def measurements(predictions):
    """The columns of nuclei.csv that are numbers.

    Args:
        predictions: Predictions. The n nuclei of an image must have the ids 1…n in this order,
            because the page finds a nucleus by its id.

    Returns:
        dict of name → list of the nuclei of all rows, one image after the other.

    Raises:
        ValueError: the ids are others.
    """
    import pandas as pd  # late: --help does not need it

    rows, nuclei = predictions.rows, predictions.nuclei
    by_image = dict(list(nuclei.groupby("image", sort=False)))
    parts = [by_image[row["image"]] for row in rows if row["shown"]]
    table = pd.concat(parts) if parts else nuclei
    ids = pd.to_numeric(table["id"], errors="coerce") if "id" in table else []
    expected = [number for row in rows for number in range(1, int(row["shown"]) + 1)]
    if list(ids) != expected:
        raise ValueError(
            "nuclei.csv: the nuclei of an image are not numbered 1…n in order; run python "
            "predict.py --overwrite"
        )
    columns = {}
    for name in table.columns.drop(NO_MEASURES, errors="ignore"):
        values = pd.to_numeric(table[name], errors="coerce")
        if values.notna().any():
            columns[name] = [shortened(value) for value in values]
    return columns


def pack_measurements(columns):
    """Pack each column by itself, so that the page unpacks only what it shows.

    Args:
        columns: as `measurements` returns them.

    Returns:
        dict of name → text for the page, and the names of columns beyond MEASURES_MB.
    """
    texts, left_out, space = {}, [], MEASURES_MB * 10**6
    for name in sorted(columns, key=lambda name: name not in FIRST_MEASURES):
        text = packed(json.dumps(columns[name], separators=(",", ":")).encode("utf-8"))
        if name in FIRST_MEASURES or len(text) <= space:
            texts[name] = text
            space -= len(text)
        else:
            left_out.append(name)
    return {name: texts[name] for name in columns if name in texts}, left_out  # in their order
