"""nuclei.report.sections"""

import html
import json
import math
import platform
import time
from importlib import metadata

import numpy as np

from nuclei.files import named
from nuclei.inference.scale import SCALE_LIMITS
from nuclei.report.inputs import CERTAINTY, OUT_OF_DISTRIBUTION
from nuclei.report.packing import FIRST_MEASURES, shortened
from nuclei.results.pictures import OVERLAY_COLOURS

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
        for name in ("scale", "mpp"):
            if math.isfinite(row.get(name, math.nan)):
                record[name] = shortened(row[name])
        if math.isfinite(row.get(OUT_OF_DISTRIBUTION, math.nan)):
            record["out_of_distribution"] = int(row[OUT_OF_DISTRIBUTION] == 1)
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
        "colours": [f"rgb({red},{green},{blue})" for red, green, blue in OVERLAY_COLOURS],
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
        scales = [row["scale"] for row in rows if math.isfinite(row.get("scale", math.nan))]
        if scales:  # estimated for each image, so that a size outside of that is no mistake by itself
            line += f" To bring nuclei to the size it knows best, the images here were scaled by {min(scales):.2g} to"
            line += f" {max(scales):.2g}; a wrong scale shows as nuclei in pieces or run together."
            extreme = [row["image"] for row in rows if row.get("scale") in SCALE_LIMITS]
            if extreme:
                line += f" The limit of scale was reached in {plural(len(extreme), 'image')}: {text(named(extreme))}."
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
    if any(OUT_OF_DISTRIBUTION in row for row in rows):
        tiles.append((f"{sum(row.get(OUT_OF_DISTRIBUTION) == 1 for row in rows):,}", "unlike the training data"))
    if record:
        pooled, means = record["all"]["pooled"], record["all"]["mean_of_images"]
        tiles += [(number_of(means["dice"]["value"]), "Dice"), (number_of(pooled["ap_50"]["value"]), "AP at IoU 0.5")]
    return "".join(f"<div><b>{text(value)}</b><span>{text(name)}</span></div>" for value, name in tiles)
