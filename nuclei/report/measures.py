"""Measurements as text inside the page: each column is JSON, deflated by zlib.

texts, left_out = pack_measurements(measurements(predictions))
"""

import json

import numpy as np

from nuclei.report.packing import packed

SIGNIFICANT_DIGITS = 5  # of measurements in the page; nuclei.csv has the exact ones
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


def shorten(values):
    """Numbers with SIGNIFICANT_DIGITS for JSON.

    Args:
        values: (n,) float.

    Returns:
        A list of int, float, and None where there is no finite number.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    sizes = np.abs(np.where(known & (values != 0), values, 1))
    digits = SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(sizes)).astype(int)
    # Powers of ten above 1 are exact, those below are not: so one is divided by, never multiplied.
    up, down = 10.0 ** np.maximum(digits, 0), 10.0 ** np.maximum(-digits, 0)
    rounded = np.round(np.where(known, values, 0) * up / down) * down / up
    whole = rounded == np.floor(rounded)
    return [
        (int(value) if is_whole else value) if is_known else None
        for value, is_whole, is_known in zip(
            rounded.tolist(), whole.tolist(), known.tolist(), strict=True
        )
    ]


def shortened(value):
    """One number as `shorten` returns it."""
    return shorten([value])[0]


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
    places = {row["image"]: number for number, row in enumerate(rows) if row["shown"]}
    place = nuclei["image"].map(places)
    table = nuclei[place.notna()].iloc[place.dropna().to_numpy().argsort(kind="stable")]
    ids = pd.to_numeric(table["id"], errors="coerce") if "id" in table else []
    expected = [number for row in rows for number in range(1, int(row["shown"]) + 1)]
    if list(ids) != expected:
        raise ValueError(
            "nuclei.csv and summary.csv do not fit together: the nuclei of an image are not "
            "numbered 1…n in order; run python predict.py --overwrite"
        )
    columns = {}
    for name in table.columns.drop(NO_MEASURES, errors="ignore"):
        values = pd.to_numeric(table[name], errors="coerce")
        if values.notna().any():
            columns[name] = shorten(values)
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
