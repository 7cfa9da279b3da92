"""The results of one image: its table of nuclei, its row of summary.csv, its files.

    table = measure_nuclei(found, model, mpp=0.5)    # a DataFrame; nothing is written
    write_image(found, table, job, run)              # masks/, labels/, overlays/, other formats
    write_rows(run.out, job, [table], summarise(found, table, job, run, seconds))

`write_results` does all of this.
"""

from pathlib import Path

import numpy as np

from nuclei.contents import content_of
from nuclei.formats.registry import FORMATS, Nuclei, write_formats
from nuclei.images.stems import text_of
from nuclei.images.writing import write_jpeg, write_labels, write_png
from nuclei.instances.confidence import confidence, confidence_features
from nuclei.instances.measure import measure
from nuclei.instances.signs import image_signs
from nuclei.model_file import Model
from nuclei.results.jobs import Job, Run, places
from nuclei.results.pictures import draw_overlay, outline_colours
from nuclei.results.tables import append_table, positive_share, replace_row
from nuclei.version import program_version
from nuclei.written import record_of

# Written unless --formats says otherwise; csv is nuclei.csv.
DEFAULT_FORMATS = ("masks", "labels", "overlays", "csv")


def measure_nuclei(found, model: Model, mpp: float | None = None):
    """Measure the nuclei of one image.

    Args:
        found: what `find_nuclei` returned.
        model: the model that found them; its calibration gives the column `confidence`.
        mpp: micrometres per pixel, for the columns in µm; None leaves them out.

    Returns:
        A pandas DataFrame with one row for each nucleus, by ascending id. It has the columns of
        `measure` and, where the model is calibrated, `confidence` (0 to 1).
    """
    import pandas as pd  # late: --help does not need it

    stains = {"stained": found.kind == "tissue", "dab": found.has_dab}
    table = pd.DataFrame(measure(found.labels, found.image, found.maps, mpp=mpp, **stains))
    if model.calibration is not None:
        features = confidence_features(found.labels, found.maps, found.scale)
        values = confidence(features, model.calibration).round(4)
        table.insert(table.columns.get_loc("mean_probability"), "confidence", values)
    return table


def is_out_of_distribution(found, table, model: Model) -> bool | None:
    """Whether an image is unlike those that the model has learned from.

    Args:
        found: what `find_nuclei` returned.
        table: what `measure_nuclei` returned.
        model: the model that found them.

    Returns:
        None where the model file has no limits.
    """
    confidences = table.get("confidence", ())
    signs = image_signs(
        found.uncertainty, found.scale_spread, confidences, table["solidity"], found.hole_share
    )
    return model.exceeds_limits(signs, found.kind)


def summarise(found, table, job: Job, run: Run, seconds: float) -> dict:
    """The row of summary.csv of one image.

    Args:
        found: what `find_nuclei` returned.
        table: what `measure_nuclei` returned.
        job, run: the image and its run.
        seconds: that reading the image and finding its nuclei took.

    Returns:
        A dict with the columns SUMMARY. The row says that the image is finished in the formats of
        this run and before.
    """
    labels, mpp = found.labels, run.options.mpp
    return {
        **places(job, run),
        "height_px": labels.shape[0],
        "width_px": labels.shape[1],
        "modality": found.kind,
        "nuclei": len(table),
        "median_diameter_px": round(float(table["diameter_px"].median()), 2) if len(table) else "",
        "scale": round(found.scale, 3),
        "scale_spread": "" if found.scale_spread is None else round(found.scale_spread, 3),
        "uncertainty": round(found.uncertainty, 4),
        "out_of_distribution": flag(is_out_of_distribution(found, table, run.model)),
        "nucleus_share": round(float((labels > 0).mean()), 4),
        "positive_share": positive_share(table["positive"]),
        "intensity_low": found.intensity[0],
        "intensity_high": found.intensity[1],
        "seconds": round(seconds, 3),
        "mpp": "" if mpp is None else mpp,
        "channel": run.options.channel or "",
        "plane": run.options.plane or "",
        "made_by": run.made_by,
        "version": program_version(),
        "formats": job.all_formats,
    }


def flag(value: bool | None) -> int | str:
    """A cell of a table: 1, 0, or empty where unknown."""
    return "" if value is None else int(value)


def result_files(out: Path, stem: str, name: str) -> list[Path]:
    """The files to which `write_image` may write one format: two for labels, none for the table."""
    if name not in DEFAULT_FORMATS:
        return [FORMATS[name].path(out, stem)]
    suffixes = {"masks": [".png"], "labels": [".png", ".tif"], "overlays": [".jpg"], "csv": []}
    return [out / name / f"{stem}{suffix}" for suffix in suffixes[name]]


def write_image(found, table, job: Job, run: Run) -> None:
    """Write the files that belong to one image alone, in the formats of its job.

    Args:
        found: what `find_nuclei` returned.
        table: what `measure_nuclei` returned; a first column `image` with the stem is added in the
            files.
        job, run: the image and its run.
    """
    out, stem, labels = run.out, job.stem, found.labels
    if "masks" in job.formats:
        write_png(out / "masks" / f"{stem}.png", (labels > 0) * np.uint8(255))
    if "labels" in job.formats:
        write_labels(out / "labels", stem, labels)
    if "overlays" in job.formats:
        confidences = table.get("confidence", table["id"])
        colours = outline_colours(run.overlay_colour, confidences)
        overlay = draw_overlay(found.image, found.intensity, labels, colours)
        write_jpeg(out / "overlays" / f"{stem}.jpg", overlay)
    others = [name for name in job.formats if name not in DEFAULT_FORMATS]
    nuclei = Nuclei(stem, text_of(job.path.name), labels, table, run.options.mpp, run.editable)
    write_formats(out, others, nuclei)


def write_rows(out: Path, job: Job, tables, summary: dict) -> None:
    """Add the rows of one image or slide to the tables that all share.

    The row in summary.csv is written last: it marks the image as finished. Where it replaces one,
    `merge_changed_rows` brings it there at the end of the run.

    Args:
        out: the folder of the results.
        job: the image or slide.
        tables: DataFrames with the rows of nuclei.csv, the first column is `image`; one for an
            image, for a slide one for each tile, as an iterator. They are taken only where the
            job's formats have "csv".
        summary: the row of summary.csv.
    """
    import pandas as pd

    if "csv" in job.formats:
        for table in tables:
            append_table(out / "nuclei.csv", table)
    record = record_of(out / "summary.csv")
    if record and (content := content_of(job.path, job.state)):
        record.note_image(job.stem, content)
    if job.formats_before:
        replace_row(out, summary)
    else:
        append_table(out / "summary.csv", pd.DataFrame([summary]))


def write_results(found, job: Job, run: Run) -> None:
    """Measure the nuclei of one image and write all its files and rows.

    Args:
        found: what `find_nuclei` returned.
        job, run: the image and its run.
    """
    table = measure_nuclei(found, run.model, run.options.mpp)
    table.insert(0, "image", job.stem)
    write_image(found, table, job, run)
    write_rows(run.out, job, [table], summarise(found, table, job, run, seconds=0.0))
