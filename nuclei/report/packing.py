"""nuclei.report.packing"""

import base64
import json
import math
import zlib

import cv2
import numpy as np
import pandas as pd

from nuclei.cli import show_progress
from nuclei.images.intensity import normalise
from nuclei.images.reading import read_image, read_stored
from nuclei.results.pictures import find_labels

MAX_SIDE_PX = 2048  # of a picture in the page; a larger image is shown reduced
THUMBNAIL_PX = 192  # long side: 96 px on a screen of double density
THUMBNAIL_QUALITY = 60  # of WebP
STEPS = ((1, 80), (1, 60), (0.7, 60), (0.5, 60), (0.35, 60), (0.25, 50), (0.125, 50))  # size, WebP quality: the first
LABEL_KIND = "<u4"  # little endian, as every browser's machine is
SIGNIFICANT_DIGITS = 5  # of measurements in the page; the exact ones are in nuclei.csv
MEASURES_MB = 8  # of the page at most for measurements: 81,448 nuclei with 41 columns take 6.2
FIRST_MEASURES = (  # what the page opens with; these are kept, whatever there is room for
    "diameter_px", "circularity", "area_px", "eccentricity", "confidence", "mean_probability", "mean_intensity",
)  # fmt: skip


def read_picture(path, row):
    """The image as the network saw it, dark ones brightened: (H, W, 3) uint8.

    Raises:
        ValueError: it has another size than the image that was predicted.
    """
    image = read_image(path)
    size = (int(row["height_px"]), int(row["width_px"]))
    if image.shape[:2] != size:
        raise ValueError(
            f"{path} has {image.shape[1]}×{image.shape[0]} px, the predicted image had {size[1]}×{size[0]}: it is another "
            "image of that name; give the right folder first: --images"
        )
    picture = normalise(image, (row["intensity_low"], row["intensity_high"]))
    picture *= 255
    return picture.astype(np.uint8)


def read_predicted_labels(folder, row):
    """The labels of one image: (H, W) uint32, 0 background, 1…n.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it does not belong to its row in summary.csv.
    """
    path = find_labels(folder / "labels", row["image"])
    labels = read_stored(path).pixels
    size = (int(row["height_px"]), int(row["width_px"]))
    if labels.ndim != 2 or labels.shape != size or int(labels.max()) != row["nuclei"]:
        raise ValueError(
            f"{path} holds {'×'.join(map(str, labels.shape[::-1]))} px and ids up to {labels.max()}; summary.csv says "
            f"{size[1]}×{size[0]} px and {row['nuclei']:.0f} nuclei; run python predict.py --overwrite"
        )
    return labels.astype(np.uint32)


def resized(array, factor, interpolation):
    height, width = (max(1, round(side * factor)) for side in array.shape[:2])
    return cv2.resize(array, (width, height), interpolation=interpolation) if (height, width) != array.shape[:2] else array


def webp(picture, quality):
    """Encode (H, W, 3) uint8 RGB as WebP; bytes."""
    good, code = cv2.imencode(".webp", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not good:
        raise ValueError(f"a picture of shape {picture.shape} cannot be encoded as WebP; install opencv-python-headless anew")
    return base64.b64encode(code.tobytes()).decode("ascii")


def packed(content):
    """zlib and base64, which a browser undoes by itself: text for the page."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def label_runs(labels):
    """Run lengths of a label image, rows joined end to end: 2 n numbers of LABEL_KIND, n ids and then n lengths.

    Deflated, this is half the size of a PNG (2.5 against 4.1 kB an image of the 77 of BBBC038 measured), and the browser
    needs no canvas to read it, which some browsers fill with noise against tracking.
    """
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    return np.concatenate([flat[starts], lengths]).astype(LABEL_KIND).tobytes()


def pack_image(picture, labels, space):
    """Encode one picture and its labels by the first of STEPS that fits.

    Args:
        picture: (H, W, 3) uint8, or None where the image is not there.
        labels: (H, W) uint32.
        space: bytes that both may take; the last of STEPS is taken however large it is.

    Returns:
        dict: `picture` and `labels` as text for the page (`picture` empty without one), and the `label_height` and
        `label_width` that are also the size of the picture.
    """
    start = min(1.0, MAX_SIDE_PX / max(labels.shape))
    for factor, quality in STEPS:
        small = resized(labels.astype(np.int32), start * factor, cv2.INTER_NEAREST)
        code = {"picture": "", "labels": packed(label_runs(small)), "label_height": small.shape[0], "label_width": small.shape[1]}
        if picture is not None:
            code["picture"] = webp(resized(picture, start * factor, cv2.INTER_AREA), quality)
        if len(code["picture"]) + len(code["labels"]) <= space:
            break
    return code


def pack_images(folder, rows, pictures, space):
    """Read and encode all images within `space` bytes; what one does not need is left to those after it."""
    images = []
    for done, row in enumerate(rows):
        labels, path = read_predicted_labels(folder, row), pictures.get(row["image"])
        picture = read_picture(path, row) if path else None
        thumbnail = ""
        if picture is not None:
            factor = min(1.0, THUMBNAIL_PX / max(labels.shape))
            thumbnail = webp(resized(picture, factor, cv2.INTER_AREA), THUMBNAIL_QUALITY)
        image = pack_image(picture, labels, (space / (len(rows) - done)) - len(thumbnail))
        images.append({**image, "thumbnail": thumbnail})
        space -= sum(len(image[part]) for part in ("picture", "labels")) + len(thumbnail)
        show_progress("Pictures", done + 1, len(rows), "images")
    return images


def shortened(value):
    """A number with SIGNIFICANT_DIGITS for JSON; None for what is none."""
    number = float(value)
    if not math.isfinite(number):
        return None
    number = float(f"{number:.{SIGNIFICANT_DIGITS}g}")
    return int(number) if number.is_integer() else number


def measurements(nuclei, rows):
    """Columns of nuclei.csv that are numbers, each a list of the nuclei of all rows one after the other.

    The n nuclei of an image must be numbered 1…n in its rows, since the page finds a nucleus by its id.
    """
    by_image = dict(list(nuclei.groupby("image", sort=False)))
    parts = [by_image[row["image"]] for row in rows if row["nuclei"]]
    table = pd.concat(parts) if parts else nuclei
    ids = pd.to_numeric(table["id"], errors="coerce") if "id" in table else pd.Series(dtype=float)
    expected = [number for row in rows for number in range(1, int(row["nuclei"]) + 1)]
    if list(ids) != expected:
        raise ValueError("nuclei.csv: the nuclei of an image are not numbered 1…n in order; run python predict.py --overwrite")
    columns = {}
    for name in table.columns.drop(["image", "id", "nearest_id"], errors="ignore"):
        values = pd.to_numeric(table[name], errors="coerce")
        if len(values) and values.notna().any():
            columns[name] = [shortened(value) for value in values]
    return columns


def pack_measurements(measured):
    """Pack each column by itself, so that the page unpacks those that it shows, as far as MEASURES_MB go.

    Returns:
        dict, name → text for the page, and the names of columns that found no room.
    """
    kept, left_out, space = {}, [], MEASURES_MB * 10**6
    for name in sorted(measured, key=lambda name: name not in FIRST_MEASURES):  # else in the order of the file
        column = packed(json.dumps(measured[name], separators=(",", ":")).encode("utf-8"))
        if name in FIRST_MEASURES or len(column) <= space:
            kept[name] = column
            space -= len(column)
        else:
            left_out.append(name)
    return {name: kept[name] for name in measured if name in kept}, left_out
