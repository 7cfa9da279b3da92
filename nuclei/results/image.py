"""nuclei.results.image"""

import cv2
import numpy as np

from nuclei.formats.registry import Nuclei, write_formats
from nuclei.images.modality import modality
from nuclei.instances.confidence import confidence, confidence_features, image_uncertainty
from nuclei.instances.measure import measure
from nuclei.results.pictures import JPEG_QUALITY, draw_overlay, write_encoded, write_labels, write_png
from nuclei.results.tables import append_table, replace_row

DEFAULT_FORMATS = ("masks", "labels", "overlays", "csv")  # written unless --formats says otherwise; csv is nuclei.csv


def write_files(
    out, stem, path, image, intensity, labels, maps, scale, settings, seconds, made_by,
    formats=DEFAULT_FORMATS, formats_there=(), mpp=None,
):  # fmt: skip
    """Write what is one image's alone, in the formats asked for.

    Returns:
        Its rows for the tables that all images share: a DataFrame for nuclei.csv and a dict for summary.csv, which says
        that the image is finished in these formats and in formats_there, those of an earlier run.
    """
    import pandas as pd

    kind = modality(image)
    table = pd.DataFrame(measure(labels, image, maps, stained=kind == "tissue", mpp=mpp))
    if "calibration" in settings:
        features = confidence_features(labels, maps, scale)
        sure = confidence(features, settings["calibration"]["weights"]).round(4)
        table.insert(table.columns.get_loc("mean_probability"), "confidence", sure)
    table.insert(0, "image", stem)
    if "masks" in formats:
        write_png(out / "masks" / f"{stem}.png", (labels > 0).astype(np.uint8) * 255)
    if "labels" in formats:
        write_labels(out / "labels", stem, labels)
    if "overlays" in formats:
        overlay = draw_overlay(image, intensity, labels)
        write_encoded(out / "overlays" / f"{stem}.jpg", ".jpg", overlay, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    write_formats(out, [name for name in formats if name not in DEFAULT_FORMATS], Nuclei(stem, path.name, labels, table, mpp))
    uncertainty = image_uncertainty(maps)
    return table, {
        "image": stem,
        "file": path.name,
        "height_px": labels.shape[0],
        "width_px": labels.shape[1],
        "modality": kind,
        "nuclei": len(table),
        "median_diameter_px": round(float(table["diameter_px"].median()), 2) if len(table) else "",
        "scale": round(scale, 3),
        "uncertainty": round(uncertainty, 4),
        "out_of_distribution": int(uncertainty > settings["out_of_distribution"]["uncertainty_above"]) if "out_of_distribution" in settings else "",
        "nucleus_share": round(float((labels > 0).mean()), 4),
        "intensity_low": intensity[0],
        "intensity_high": intensity[1],
        "seconds": round(seconds, 3),
        "mpp": "" if mpp is None else mpp,
        "made_by": made_by,
        "formats": " ".join(dict.fromkeys([*formats_there, *formats])),
    }


def write_rows(out, table, summary, formats, formats_there):
    """Add what `write_files` returned to the tables; the row in summary.csv comes last and marks the image as finished."""
    import pandas as pd

    if "csv" in formats:
        append_table(out / "nuclei.csv", table)
    if formats_there:
        replace_row(out / "summary.csv", summary)
    else:
        append_table(out / "summary.csv", pd.DataFrame([summary]))


def write_results(*image, formats=DEFAULT_FORMATS, formats_there=(), mpp=None):
    """`write_files` and `write_rows` of one image, with the arguments of `write_files`; the number of its nuclei."""
    table, summary = write_files(*image, formats=formats, formats_there=formats_there, mpp=mpp)
    write_rows(image[0], table, summary, formats, formats_there)
    return len(table)
