"""Pictures and labels as text inside the page, small enough to mail.

Pictures are WebP in base64. Labels are run lengths deflated by zlib, which a browser unpacks
without a library. `pack_images` shares the space of the page among the images: it takes the first
of STEPS that fits.
"""

import base64
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import NamedTuple

import cv2
import numpy as np

from nuclei.files import unreadable
from nuclei.images.intensity import normalise
from nuclei.images.labels import read_labels
from nuclei.images.reading import open_image
from nuclei.images.writing import encode, find_labels
from nuclei.machine import num_cores
from nuclei.progress import Progress
from nuclei.report.predictions import SLIDE

MAX_SIDE_PX = 2048  # of a picture in the page; a larger image is shown reduced
THUMBNAIL_PX = 192  # long side: 96 px on a screen of double density
THUMBNAIL_QUALITY = 60  # of WebP
# Size and WebP quality, best first. At 80 the edges of nuclei show no artefact, below 50 they do.
STEPS = ((1, 80), (1, 60), (0.7, 60), (0.5, 60), (0.35, 60), (0.25, 50), (0.125, 50))
LEAST_POWER = 0.8  # of the ratio of two sizes: how much their bytes differ at the least
GROUP = 16  # images that are encoded with equal shares of the space
# Of zlib. 9 makes labels 4 % smaller in ten times the time, which pays for what is packed once.
FAST_LEVEL, BEST_LEVEL = 6, 9
LABEL_TYPE = "<u4"  # little endian, as in JavaScript on all current machines
MISSING_SHAPE = (1, 1)  # of the labels of a slide whose overview was not found


class PackedImage(NamedTuple):
    """One image as text for the page."""

    picture: str  # WebP; empty where the image was not found
    labels: str  # run lengths, see `label_runs`
    height: int  # of the labels and of the picture, in px
    width: int
    thumbnail: str = ""  # WebP; empty where the image was not found
    step: int = 0  # of STEPS

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
        (H, W, 3) uint8 RGB; None where it cannot be read.

    Raises:
        ValueError: it has another size than the image that was predicted.
    """
    channel, plane = (str(row.get(name) or "") or None for name in ("channel", "plane"))
    image = image_or_none(path, channel, plane)
    if image is None:
        return None
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


def image_or_none(path, channel=None, plane=None):
    """The image of a file, (H, W, 3); None where it cannot be read, which the user is told."""
    try:
        return open_image(path, channel, plane).image
    except (OSError, ValueError) as error:
        print(f"shown without a picture: {unreadable(path, error)}", file=sys.stderr)
        return None


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
        (picture, labels): (H, W, 3) uint8 RGB or None where there is none to show, and (H, W)
        int32. The overview of a slide has its nuclei in the picture, and no labels; it is smaller
        than the slide.
    """
    if row["part"] == SLIDE:
        picture = None if path is None else image_or_none(path)
        shape = MISSING_SHAPE if picture is None else picture.shape[:2]
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


def packed(content, level=BEST_LEVEL):
    """Text of some bytes: deflated by zlib at a level, in base64."""
    return base64.b64encode(zlib.compress(content, level)).decode("ascii")


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


def pack_image(picture, labels, space, start=0):
    """Encode one picture and its labels by the first of STEPS that fits.

    Args:
        picture: (H, W, 3) uint8, or None where the image was not found.
        labels: (H, W) int32.
        space: bytes for all parts together; the last of STEPS is taken even if it needs more.
        start: the step that is tried first. Encoding takes nearly all the time of a page, so a step
            that probably fits is better than 0, and the image that results is the same.

    Returns:
        PackedImage.
    """
    thumbnail = ""
    if picture is not None:
        factor = min(1.0, THUMBNAIL_PX / max(labels.shape))
        thumbnail = webp(resized(picture, factor, cv2.INTER_AREA), THUMBNAIL_QUALITY)
    space -= len(thumbnail)
    image = encode_step(picture, labels, start)
    while image.num_bytes > space and image.step + 1 < len(STEPS):
        image = encode_step(picture, labels, image.step + 1)
        start = 0  # larger steps did not fit
    while start and image.step and image.num_bytes * least_growth(image.step) <= space:
        larger = encode_step(picture, labels, image.step - 1)
        if larger.num_bytes > space:
            break
        image = larger
    return image._replace(thumbnail=thumbnail)


def encode_step(picture, labels, step):
    """Encode a picture, which may be None, and its labels by one of STEPS, without thumbnail."""
    factor, quality = STEPS[step]
    factor *= min(1.0, MAX_SIDE_PX / max(labels.shape))
    small, code = resized(labels, factor, cv2.INTER_NEAREST), ""
    if picture is not None:
        code = webp(resized(picture, factor, cv2.INTER_AREA), quality)
    return PackedImage(code, packed(label_runs(small), FAST_LEVEL), *small.shape, step=step)


def least_growth(step):
    """How many times larger an image is, at the least, one step before `step`."""
    return (STEPS[step - 1][0] / STEPS[step][0]) ** LEAST_POWER


def pack_images(predictions, pictures, space):
    """Read and encode all images, several at once.

    The images of a group get equal shares of the space that is left. What they do not need is left
    to the next groups.

    Args:
        predictions: Predictions.
        pictures: dict of stem -> path of the image, where it was found.
        space: bytes for all images together.

    Returns:
        list of PackedImage, in the order of the rows.
    """
    images, rows = [], predictions.rows

    def pack(row, share, start):
        picture, labels = read_pixels(row, pictures.get(row["image"]))
        image = pack_image(picture, labels, share, start)
        progress.add(1)
        return image

    with (
        Progress("Pictures", len(rows), "images", log=True) as progress,
        ThreadPoolExecutor(num_cores()) as threads,
    ):
        start = 0
        for first in range(0, len(rows), GROUP):
            share = space / (len(rows) - first)
            group = rows[first : first + GROUP]
            images += threads.map(pack, group, repeat(share), repeat(start))
            space -= sum(image.num_bytes for image in images[first:])
            start = sorted(image.step for image in images[first:])[len(group) // 2]
    return images
