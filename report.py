"""Make one page of a folder of predictions to look at, send on and click through: report.html, which needs no network.

    python report.py                                          # predictions/ + test_raw/ -> predictions/report.html
    python report.py found --images my_images more_images     # the folders that were given to predict.py
    python report.py found --images my_images --evaluation scores/evaluation.json --out for_the_lab.html

The page holds the pictures with their nuclei, a table of images, the measurements, scores where `evaluate.py` has
written them, the training curves, and what the model file says about itself. The images that need a look come first:
those flagged as unlike the training data, then the worst by truth, or, without a truth, the least certain.

Its looks and its behaviour stand in report_page.html; this file collects the contents and packs them.
"""

import argparse
import base64
import html
import json
import math
import platform
import sys
import time
import zlib
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

import graph
import predict
import tiling
import unet
from import_data import (
    first_line,
    named,
    normalise,
    read_image,
    read_stored,
    replacing,
    show_progress,
    user_errors_in_one_line,
)

PAGE = Path(__file__).with_name("report_page.html")
OUT_NAME = "report.html"
GENERATOR = '<meta name="generator" content="report.py">'  # by which a page of ours is known before it is replaced
PAGE_MB = 38  # that a page may weigh, in 10**6 bytes: mail and browsers still take it
MAX_SIDE_PX = 2048  # of a picture in the page; a larger image is shown reduced
THUMBNAIL_PX = 192  # long side: 96 px on a screen of double density
THUMBNAIL_QUALITY = 60  # of WebP
STEPS = ((1, 80), (1, 60), (0.7, 60), (0.5, 60), (0.35, 60), (0.25, 50), (0.125, 50))  # size, WebP quality: the first
# that fits into the space that is left for an image; at 80 nuclei edges show no artefact, below 50 they do
RESERVE_BYTES = 100_000  # of the page for its sections of text
ROW_BYTES = 500  # of the page for an image beside its pictures: table, tags
LABEL_KIND = "<u4"  # little endian, as every browser's machine is
SIGNIFICANT_DIGITS = 5  # of measurements in the page; the exact ones are in nuclei.csv
MEASURES_MB = 8  # of the page at most for measurements: 81,448 nuclei with 41 columns take 6.2
FIRST_MEASURES = (  # what the page opens with; these are kept, whatever there is room for
    "diameter_px", "circularity", "area_px", "eccentricity", "confidence", "mean_probability", "mean_intensity",
)  # fmt: skip
SHOWN_SCORES = {  # of an image in the table, from evaluation.json
    "mean_ap": "mean AP",
    "ap_50": "AP at 0.5",
    "dice": "Dice",
    "count_error": "count error",
}
FOREST = (  # columns of the table of scores: name, how summarised, heading, ends of its scale
    ("dice", "mean_of_images", "Dice", (0, 1)),
    ("ap_50", "pooled", "AP at IoU 0.5, pooled", (0, 1)),
    ("mean_ap", "mean_of_images", "mean AP 0.5:0.95", (0, 1)),
    ("aji", "mean_of_images", "AJI", (0, 1)),
    ("pq", "mean_of_images", "PQ", (0, 1)),
    ("count_error_relative", "pooled", "count error", (-0.5, 0.5)),
)
MISTAKES = ("merges", "splits", "misses", "extras")
UNLIKE = "unlike_training"  # column of summary.csv: 1 where the image is unlike the training data; empty where unknown
CERTAINTY = {"confidence": "mean confidence", "mean_probability": "mean probability"}  # of an image; the first there is
SUMMARY_COLUMNS = ("file", "height_px", "width_px", "modality", "nuclei", "median_diameter_px", "nucleus_share")
INTENSITIES = ("intensity_low", "intensity_high")


# --- What predict.py, evaluate.py and train.py have left ------------------------------------------------------------


def read_predictions(folder):
    """Read both tables of a folder that predict.py has written.

    Returns:
        The rows of summary.csv as a list of dicts, numbers as numbers (NaN where a cell is empty), and nuclei.csv as a
        DataFrame in the order of these rows, reduced to finished images.

    Raises:
        FileNotFoundError, ValueError: the folder is not one of predict.py, or its tables contradict one another.
    """
    path = folder / "summary.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run python predict.py first, or name the folder it wrote")
    summary, nuclei = predict.read_table(path), predict.read_table(folder / "nuclei.csv")
    if summary.empty:
        raise ValueError(f"{path} holds no image; run python predict.py to its end")
    missing = [name for name in (*SUMMARY_COLUMNS, *INTENSITIES) if name not in summary]
    if missing:
        raise ValueError(f"{path} has no column {named(missing)}; run python predict.py --overwrite to write it anew")
    if "formats" in summary:
        partly = summary["image"][[not {"labels", "csv"} <= set(formats.split()) for formats in summary["formats"]]]
        if len(partly):
            raise ValueError(
                f"{folder} has no labels or no csv of {named(partly)}; run python predict.py again with --formats labels,csv, "
                "which adds them; whole slides have no such labels: predict images into a folder of their own"
            )
    for name in ("height_px", "width_px", "nuclei", "median_diameter_px", "nucleus_share", *INTENSITIES, UNLIKE, "zoom", "mpp"):
        if name in summary:
            summary[name] = pd.to_numeric(summary[name], errors="coerce")
    broken = summary["image"][summary[["height_px", "width_px", "nuclei", *INTENSITIES]].isna().any(axis=1)]
    if len(broken):
        raise ValueError(f"{path}: a size, count or intensity of {named(broken)} is no number; predict with --overwrite")
    if UNLIKE in summary and summary[UNLIKE].isna().all():
        summary = summary.drop(columns=UNLIKE)  # the model cannot tell, so nothing is said
    rows = summary.to_dict("records")
    counts = nuclei["image"].value_counts()
    wrong = [row["image"] for row in rows if counts.get(row["image"], 0) != row["nuclei"]]
    if wrong:
        raise ValueError(f"{folder}: summary.csv and nuclei.csv count differently in {named(wrong)}; predict with --overwrite")
    return rows, nuclei


def read_evaluation(path, rows):
    """Read evaluation.json, or return None and why the page has no scores.

    Scores of other predictions than these (another number of nuclei, or no image in common) are left out.

    Returns:
        The record of evaluate.py or None, and a sentence or "".
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        scored = {image["stem"]: image["num_predicted"] for image in record["images"]}
        record["all"]["pooled"], record["groups"], record["definitions"]
    except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected an evaluation.json of evaluate.py ({first_line(error)})") from None
    counts = {row["image"]: row["nuclei"] for row in rows}
    shared = scored.keys() & counts.keys()
    if not shared:
        return None, f"{path} scores other images ({named(sorted(scored))}), so no scores are shown."
    changed = sorted(stem for stem in shared if scored[stem] != counts[stem])
    if changed:
        return None, (
            f"{path} was made of other predictions (another number of nuclei in {named(changed)}), so no scores are "
            "shown. Run evaluate.py again."
        )
    return record, ""


def by_attention(rows, nuclei, scores):
    """Order the images by how much they need a look, and say by what.

    Flagged images come first; then the lowest mean AP, images without a truth last. Where there is no truth at all,
    the lowest mean of the nuclei's confidence or, without that column, probability comes first. On 77 images held out
    from the training of the shipped weights the rank correlation of the latter with mean AP was 0.63 (Spearman), that of
    the doubt in summary.csv -0.50.

    Returns:
        The rows in that order, each with `certainty` (mean of its nuclei; NaN without any), and a sentence.
    """
    certainty, column = {}, certainty_column(nuclei)
    if column:
        certainty = pd.to_numeric(nuclei[column], errors="coerce").groupby(nuclei["image"]).mean().to_dict()
    rows = [{**row, "certainty": certainty.get(row["image"], math.nan)} for row in rows]
    flagged = any(row.get(UNLIKE) == 1 for row in rows)
    words = ["those unlike the training data"] if flagged else []
    if scores:
        words.append("those of the lowest mean AP")
        rank = {stem: score["mean_ap"] for stem, score in scores.items()}
    else:
        name = f" ({CERTAINTY[column]})" if column else ""
        words.append(f"those with the least certain nuclei{name}, since there is no truth to compare with")
        rank = certainty
    known = [value for value in rank.values() if value is not None and math.isfinite(value)]
    last = max(known, default=0) + 1

    def key(row):
        value = rank.get(row["image"])
        return row.get(UNLIKE) != 1, last if value is None or math.isnan(value) else value

    return sorted(rows, key=key), "First come " + ", then ".join(words) + "."


def certainty_column(nuclei):
    """The column of nuclei.csv that says how sure the network is of a nucleus, or None."""
    return next((name for name in CERTAINTY if name in nuclei), None)


def find_history(model_path):
    """The history that lies beside a model: history.csv of trained_model.h5, NAME_history.csv of NAME.h5, or None."""
    own = model_path.with_name(f"{model_path.stem}_history.csv")
    if own.is_file():
        return own
    usual = model_path.with_name(Path(graph.HISTORY).name)
    return usual if usual.is_file() and model_path.name == Path(predict.MODELS[0]).name else None


# --- Pictures -------------------------------------------------------------------------------------------------------


def find_pictures(rows, folders):
    """Find the image of each row in the folders by the file name in the table.

    Returns:
        dict, stem → path, of those that are there.

    Raises:
        FileNotFoundError: a folder is missing, or holds none of the images with any other.
    """
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; give the folders with the images that were predicted: --images")
    found = {}
    for row in rows:
        for folder in folders:
            path = folder / row["file"]
            if path.is_file():
                found.setdefault(row["image"], path)
    if not found:
        files = named(row["file"] for row in rows)
        raise FileNotFoundError(
            f"{named(folders)}: none of the predicted images is there ({files}); give the folders that hold them: --images"
        )
    return found


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


def read_labels(folder, row):
    """The labels of one image: (H, W) uint32, 0 background, 1…n.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it does not belong to its row in summary.csv.
    """
    path = predict.find_labels(folder / "labels", row["image"])
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


def runs(labels):
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
        code = {"picture": "", "labels": packed(runs(small)), "label_height": small.shape[0], "label_width": small.shape[1]}
        if picture is not None:
            code["picture"] = webp(resized(picture, start * factor, cv2.INTER_AREA), quality)
        if len(code["picture"]) + len(code["labels"]) <= space:
            break
    return code


def pack_images(folder, rows, pictures, space):
    """Read and encode all images within `space` bytes; what one does not need is left to those after it."""
    images = []
    for done, row in enumerate(rows):
        labels, path = read_labels(folder, row), pictures.get(row["image"])
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


# --- Contents -------------------------------------------------------------------------------------------------------


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


def contents(rows, measures, certainty, scores, images, order, figure):
    """What the script of the page reads, without the pictures themselves."""
    records = []
    for row, image in zip(rows, images, strict=True):
        record = {
            "stem": row["image"],
            "file": row["file"],
            "height": int(row["height_px"]),
            "width": int(row["width_px"]),
            "modality": row["modality"],
            "nuclei": int(row["nuclei"]),
            "diameter": shortened(row["median_diameter_px"]),
            "share": shortened(row["nucleus_share"]),
            "certainty": shortened(row["certainty"]),
            "has_picture": bool(image["picture"]),
            "label_height": image["label_height"],
            "label_width": image["label_width"],
            "thumbnail": image["thumbnail"],
        }
        for name in ("zoom", "mpp"):
            if math.isfinite(row.get(name, math.nan)):
                record[name] = shortened(row[name])
        if math.isfinite(row.get(UNLIKE, math.nan)):
            record["unlike"] = int(row[UNLIKE] == 1)
        if row["image"] in scores:
            record["scores"] = {name: scores[row["image"]].get(name) for name in SHOWN_SCORES}
        records.append(record)
    return {
        "images": records,
        "measures": list(measures),
        "first_measures": [name for name in FIRST_MEASURES if name in measures],
        "certainty_name": CERTAINTY.get(certainty, ""),
        "score_names": SHOWN_SCORES if scores else {},
        "order": order,
        "training": figure,
        "colours": [f"rgb({red},{green},{blue})" for red, green, blue in predict.OVERLAY_COLOURS],
    }


def text(value):
    return html.escape(str(value))


def table_of(header, rows, caption):
    """A table in HTML; cells are HTML already, the first of each row is its heading."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others) + "</tr>"
        for first, *others in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table class="plain">'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def definitions(pairs):
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{value}</dd>" for name, value in pairs if value) + "</dl>"


def number_of(value, digits=3):
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def plural(count, noun):
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def forest_cell(score, ends, percent):
    """A score with its 95 % interval in figures and as a bar on a scale."""
    value, low, high = score["value"], score["low"], score["high"]
    if value is None:
        return "–"

    def written(number, unit=" %"):
        return f"{100 * number:+.1f}{unit}" if percent else number_of(number)

    def place(number):
        return 100 * min(1, max(0, (number - ends[0]) / (ends[1] - ends[0])))

    interval = line = ""
    if low is not None and high is not None:
        interval = f' <span class="interval">{written(low, "")} to {written(high)}</span>'
        line = f'<i style="left:{place(low):.1f}%;width:{place(high) - place(low):.1f}%"></i>'
    middle = '<u style="left:50%"></u>' if percent else ""
    return (
        f'<b>{written(value)}</b>{interval}<span class="forest" aria-hidden="true">{middle}{line}'
        f'<b style="left:{place(value):.1f}%"></b></span>'
    )


def scores_section(record, note):
    """Scores with intervals for all images and each group, or how to get them."""
    if record is None:
        return (
            (f"<p>{text(note)}</p>" if note else "<p>These predictions have not been compared with a truth.</p>")
            + "<p>Where you have true masks: <code>python evaluate.py PREDICTIONS TRUTH --groups groups.csv</code>, and "
            "<code>python report.py</code> again. The scores of the model on its own validation images stand below.</p>"
        )
    summaries = {"all images": record["all"], **record["groups"]}
    rows = []
    for name, summary in summaries.items():
        cells = [
            forest_cell(summary[kind][score], ends, percent=score == "count_error_relative") for score, kind, _, ends in FOREST
        ]
        mistakes = [f"{summary[kind]:,}" for kind in MISTAKES]
        counts = f"{summary['num_images']:,} / {summary['num_truth']:,}"
        rows.append([text(name), counts, *cells, *mistakes])
    header = ["", "images / true nuclei", *(heading for _, _, heading, _ in FOREST), *MISTAKES]
    notes = "".join(f"<li>{text(line)}</li>" for line in record.get("notes", []))
    used = [name for name, *_ in FOREST] + list(MISTAKES) + ["pooled", "mean_of_images", "low, high"]
    explained = [(name, text(value)) for name, value in record["definitions"].items() if name in used or name.startswith("ap_")]
    return (
        table_of(header, rows, "Scores; ranges are 95 % intervals over images")
        + (f"<ul>{notes}</ul>" if notes else "")
        + f"<p class='quiet'>Truth: {text(record.get('truth', ''))}. All but AP at 0.5 and count error are means over "
        "images. Rows with few images have intervals that mean little.</p>"
        f"<details><summary>What the scores mean</summary>{definitions(explained)}</details>"
    )


def model_section(settings, model_path, rows):
    """What the model was trained on, its scores and its limits, from the settings inside its file."""
    data, sizes = settings.get("data", {}), settings.get("nucleus_diameter_px", {})
    kinds, architecture = data.get("train", {}), settings.get("architecture", {})
    total, aside = sum(kinds.values()), data.get("validation", 0)
    by_kind = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1]))
    truth = ", ".join(f"{count:,} {form}" for form, count in data.get("truth", {}).items())
    thresholds = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in settings.get("thresholds", {}).items())
    versions = ", ".join(f"{name} {version}" for name, version in settings.get("versions", {}).items())
    has_sizes = {"median", "percentile_5", "percentile_95"} <= sizes.keys()
    diameters = (
        f"{sizes['median']:g} px median, {sizes['percentile_5']:g} to {sizes['percentile_95']:g} px (5th to 95th percentile)"
        if has_sizes
        else ""
    )
    facts = [
        ("file", f"<code>{text(model_path)}</code>"),
        ("trained on", f"{plural(total, 'image')}: {text(by_kind)}" if total else ""),
        ("set aside", f"{plural(aside, 'image')} to choose the epoch and the thresholds" if aside else ""),
        ("truth", text(truth)),
        ("nucleus diameters", diameters),
        ("maps", text(", ".join(architecture.get("heads", [])))),
        ("thresholds", text(thresholds)),
        ("trained with", text(versions)),
    ]  # fmt: skip
    scores = settings.get("scores", {}).get("validation", {})
    own = ""
    if scores:
        lines = [
            [text(kind), f"{score['images']:,}", *(number_of(score.get(name)) for name in ("dice", "ap50", "map"))]
            for kind, score in scores.items()
            if isinstance(score, dict) and "images" in score
        ]
        own = table_of(["", "images", "Dice", "AP at 0.5", "mean AP"], lines, "The model's scores on its own validation images")
    everything = json.dumps(settings, indent=1, ensure_ascii=False)
    return (
        definitions(facts)
        + own
        + f"<h3>Limits</h3><ul>{''.join(f'<li>{line}</li>' for line in limits(settings, rows))}</ul>"
        + f"<details><summary>Everything in the model file</summary><pre>{text(everything)}</pre></details>"
    )


def limits(settings, rows):
    """Sentences on what the model cannot be relied on for, each from the settings or from these very images."""
    lines = []
    kinds = settings.get("data", {}).get("train", {})
    scores = settings.get("scores", {}).get("validation", {})
    if kinds:
        rare = min(kinds, key=kinds.get)
        if len(kinds) > 1:
            lines.append(f"Fewest training images: {text(rare)} ({kinds[rare]:,} of {sum(kinds.values()):,}).")
        strange = [row["image"] for row in rows if row["modality"] not in kinds]
        if strange:
            lines.append(
                f"{plural(len(strange), 'image')} here of a kind that the training did not have: {text(named(strange))}."
            )
    weak = {kind: score["ap50"] for kind, score in scores.items() if kind != "all" and isinstance(score, dict)
            and score.get("ap50") is not None}  # fmt: skip
    if len(weak) > 1:
        worst = min(weak, key=weak.get)
        lines.append(f"Weakest on {text(worst)}: AP at 0.5 of {weak[worst]:.2f}, against {max(weak.values()):.2f} at best.")
    sizes = settings.get("nucleus_diameter_px", {})
    if {"percentile_5", "percentile_95"} <= sizes.keys():
        low, high = sizes["percentile_5"], sizes["percentile_95"]
        outside = [row["image"] for row in rows if not low <= row["median_diameter_px"] <= high and row["nuclei"]]
        line = f"It was trained on nuclei of {low:g} to {high:g} px (5th to 95th percentile)."
        zooms = [row["zoom"] for row in rows if math.isfinite(row.get("zoom", math.nan))]
        if zooms:  # estimated for each image, so that a size outside of that is no mistake by itself
            line += f" To bring nuclei to the size it knows best, the images here were zoomed by {min(zooms):.2g} to"
            line += f" {max(zooms):.2g}; a wrong zoom shows as nuclei in pieces or run together."
            extreme = [row["image"] for row in rows if row.get("zoom") in tiling.ZOOM_LIMITS]
            if extreme:
                line += f" The limit of zoom was reached in {plural(len(extreme), 'image')}: {text(named(extreme))}."
        elif outside:
            line += " Rescale images of other magnifications: the median lies outside in"
            line += f" {plural(len(outside), 'image')}: {text(named(outside))}."
        lines.append(line)
    if scores:
        lines.append("Epoch and thresholds were chosen on the validation images, so their scores flatter a little.")
    lines.append("A research tool: not validated for diagnosis.")
    return lines


def made_section(rows, folder, folders, model_path, missing, left_out, command):
    """How the page came about."""
    makers = sorted({row["made_by"] for row in rows})
    others = [maker for maker in makers if maker.split(" ")[0] != model_path.name]
    warning = f" The model described above is {text(model_path.name)}." if others else ""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "pandas", "plotly"))
    facts = [
        ("predictions", f"<code>{text(folder)}</code>, made by {text('; '.join(makers))}.{warning}"),
        ("images", ", ".join(f"<code>{text(path)}</code>" for path in folders)),
        ("not found", f"{plural(len(missing), 'image')}, shown without a picture: {text(named(missing))}" if missing else ""),
        ("left out", f"for want of room, columns of nuclei.csv: {text(', '.join(left_out))}" if left_out else ""),
        ("brightness", "as the network saw it: percentiles of the whole image stretched to black and white"),
        ("this page", f"<code>{text(command)}</code>, {time.strftime('%Y-%m-%d %H:%M')}"),
        ("versions", text(f"Python {platform.python_version()}, {versions}")),
    ]
    return definitions(facts)


def headline(rows, record):
    """Figures at the top of the page: (value, what it is)."""
    diameters = [row["median_diameter_px"] for row in rows if row["nuclei"]]
    tiles = [
        (f"{len(rows):,}", "image" if len(rows) == 1 else "images"),
        (f"{sum(int(row['nuclei']) for row in rows):,}", "nuclei"),
    ]
    if diameters:
        tiles.append((f"{np.median(diameters):.1f} px", "median diameter, of images"))
    if any(UNLIKE in row for row in rows):
        tiles.append((f"{sum(row.get(UNLIKE) == 1 for row in rows):,}", "unlike the training data"))
    if record:
        pooled, means = record["all"]["pooled"], record["all"]["mean_of_images"]
        tiles += [(number_of(means["dice"]["value"]), "Dice"), (number_of(pooled["ap_50"]["value"]), "AP at IoU 0.5")]
    return "".join(f"<div><b>{text(value)}</b><span>{text(name)}</span></div>" for value, name in tiles)


# --- The page -------------------------------------------------------------------------------------------------------


def block(name, content, kind="text/plain"):
    """Content that the browser keeps as text until the page asks for it; base64 holds no `<`."""
    return f'<script type="{kind}" id="{name}">{content}</script>\n'


def fill(template, parts):
    """Put each part in place of its %%NAME%%; all are searched in the template, none inside another part."""
    pieces = template.split("%%")
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def refuse_foreign(out):
    """Raise ValueError where `out` is a file that is not an earlier page of ours."""
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name the page to write: --out {out / OUT_NAME}")
    if out.exists() and GENERATOR not in out.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise ValueError(f"{out} is there and was not written by report.py; give another name: --out FILE")


def write_report(folder, folders, model_path, history_path, evaluation_path, out, command):
    """Collect everything, write the page, and return (number of images, of nuclei, size in bytes, stems without picture)."""
    from plotly.offline import get_plotlyjs  # late: --help need not wait for it

    rows, nuclei = read_predictions(folder)
    record, note = read_evaluation(evaluation_path, rows) if evaluation_path else (None, "")
    if note:
        print(note, file=sys.stderr)
    scores = {image["stem"]: image for image in record["images"]} if record else {}
    rows, order = by_attention(rows, nuclei, scores)
    settings = unet.read_settings(model_path)
    curves, training = None, "<p>No history.csv lies beside the model; name it with --history.</p>"
    if history_path:
        columns = graph.read_history(history_path)
        figure = graph.draw({model_path.stem: columns})
        curves = json.loads(figure.to_json())
        height = round(110 + 190 * figure.layout.meta["height"])
        training = (
            f"<p>{text(graph.summary(str(history_path), columns))}</p><p class='quiet'>{text(graph.KEY)}</p>"
            f'<div id="training-plot" class="plot" style="height:{height}px" role="img" '
            'aria-label="Training curves by epoch"></div>'
        )
    pictures = find_pictures(rows, folders)
    missing = [row["image"] for row in rows if row["image"] not in pictures]

    template = PAGE.read_text(encoding="utf-8")
    plotly = packed(get_plotlyjs().encode("utf-8"))
    measures, left_out = pack_measurements(measurements(nuclei, rows))
    weight = len(plotly) + sum(map(len, measures.values())) + len(template) + ROW_BYTES * len(rows) + RESERVE_BYTES
    space = PAGE_MB * 10**6 - weight
    images = pack_images(folder, rows, pictures, space)
    everything = contents(rows, measures, certainty_column(nuclei), scores, images, order, curves)
    first = everything["first_measures"]
    shown = [
        block(f"picture-{number}", image["picture"]) + block(f"labels-{number}", image["labels"])
        for number, image in enumerate(images)
    ]
    parts = {
        "GENERATOR": GENERATOR,
        "TITLE": text(f"Nuclei in {plural(len(rows), 'image')}"),
        "SUBTITLE": text(f"{folder.resolve().name}, found by {model_path.name}"),
        "HEADLINE": headline(rows, record),
        "SCORES": scores_section(record, note),
        "TRAINING": training,
        "MODEL": model_section(settings, model_path, rows),
        "MADE": made_section(rows, folder, folders, model_path, missing, left_out, command),
        "FIRST": block("data", packed(json.dumps(everything).encode("utf-8")))
        + "".join(shown[:1] + [block(f"measure-{name}", measures[name]) for name in first])
        + block("plotly", plotly),
        "LATER": "".join(shown[1:] + [block(f"measure-{name}", measures[name]) for name in measures if name not in first]),
    }
    page = fill(template, parts).encode("utf-8")
    with replacing(out) as temporary:
        temporary.write_bytes(page)
    return len(rows), sum(int(row["nuclei"]) for row in rows), len(page), missing


@user_errors_in_one_line
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("predictions", nargs="?", default=predict.OUT, type=Path, help="folder that predict.py wrote (%(default)s)")
    add("--images", nargs="+", default=[Path(predict.INPUT)], type=Path, metavar="DIR",
        help=f"folders with the images that were predicted ({predict.INPUT})")  # fmt: skip
    add("--model", type=Path, metavar="FILE", help=f"the model used ({predict.MODELS[0]}, or else {predict.MODELS[1]})")
    add("--history", type=Path, metavar="FILE", help="its training history (the one that lies beside the model)")
    add("--evaluation", type=Path, metavar="FILE", help="scores by evaluate.py (PREDICTIONS/evaluation.json, if there)")
    add("--out", type=Path, metavar="FILE", help=f"the page to write (PREDICTIONS/{OUT_NAME})")
    args = parser.parse_args(argv)

    out = args.out or args.predictions / OUT_NAME
    refuse_foreign(out)
    model_path = predict.find_model(args.model)
    evaluation = args.evaluation
    if evaluation is None:
        usual = args.predictions / "evaluation.json"
        evaluation = usual if usual.is_file() else None
    elif evaluation.is_dir():
        evaluation /= "evaluation.json"
    words = [Path(__file__).name, *map(str, sys.argv[1:] if argv is None else argv)]
    num_images, num_nuclei, size, missing = write_report(
        folder=args.predictions,
        folders=list(dict.fromkeys(args.images)),
        model_path=model_path,
        history_path=args.history or find_history(model_path),
        evaluation_path=evaluation,
        out=out,
        command=" ".join(["python", *words]),
    )
    if missing:
        print(f"{plural(len(missing), 'image')} shown without a picture, not found: {named(missing)}", file=sys.stderr)
    print(f"Wrote {out}: {plural(num_images, 'image')}, {num_nuclei:,} nuclei, {size / 1e6:.1f} MB. Open it in a browser.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
