"""What a page says about the model: its training, its scores, and where it is unreliable.

Everything comes from the settings in the model file and from the rows of summary.csv.
"""

import json
import math

from nuclei.files import named, plural
from nuclei.inference.scale import SCALE_LIMITS
from nuclei.report.predictions import FIELD
from nuclei.report.sections import definitions, number_of, table_of, text


def model_section(inputs):
    """What the model was trained on, its scores and its limits, from the settings in its file."""
    settings = inputs.settings
    scores = settings.get("scores", {}).get("validation", {})
    own_scores = ""
    if scores:
        names = ("dice", "ap50", "map")
        lines = [
            [text(kind), f"{score['images']:,}", *(number_of(score.get(name)) for name in names)]
            for kind, score in scores.items()
        ]
        header = ["", "images", "Dice", "AP at 0.5", "mean AP"]
        caption = "The model's scores on its own validation images"
        own_scores = table_of(header, lines, caption)
    rows = [row for row in inputs.predictions.rows if row["part"] != FIELD]
    everything = json.dumps(settings, indent=1, ensure_ascii=False)
    items = "".join(f"<li>{line}</li>" for line in limits(settings, rows))
    return (
        definitions(model_facts(settings, inputs.model_path))
        + own_scores
        + f"<h3>Limits</h3><ul>{items}</ul>"
        + "<details><summary>Everything in the model file</summary>"
        + f"<pre>{text(everything)}</pre></details>"
    )


def model_facts(settings, model_path):
    """Pairs of (name, HTML) about a model; HTML is empty where its file does not say it."""

    def listed(values, form="{1:,} {0}"):
        return text(", ".join(form.format(*item) for item in values.items()))

    data, sizes = settings.get("data", {}), settings.get("nucleus_diameter_px", {})
    kinds = dict(sorted(data.get("train", {}).items(), key=lambda item: -item[1]))
    total, validation = sum(kinds.values()), data.get("validation", 0)
    diameters = ""
    if has_sizes(sizes):
        diameters = (
            f"{sizes['median']:g} px median, {sizes['percentile_5']:g} to "
            f"{sizes['percentile_95']:g} px (5th to 95th percentile)"
        )
    purpose = "to choose the epoch and the thresholds"
    thresholds = {
        name.replace("_", " "): value for name, value in settings.get("thresholds", {}).items()
    }
    return [
        ("file", f"<code>{text(model_path)}</code>"),
        ("trained on", f"{plural(total, 'image')}: {listed(kinds)}" if total else ""),
        ("validated on", f"{plural(validation, 'image')} {purpose}" if validation else ""),
        ("truth", listed(data.get("truth", {}))),
        ("nucleus diameters", diameters),
        ("maps", text(", ".join(settings.get("architecture", {}).get("heads", [])))),
        ("thresholds", listed(thresholds, "{0} {1:g}")),
        ("trained with", listed(settings.get("versions", {}), "{0} {1}")),
    ]


def has_sizes(sizes):
    """Whether a model file says which nucleus diameters the model was trained on."""
    return {"median", "percentile_5", "percentile_95"} <= sizes.keys()


def limits(settings, rows):
    """Sentences about where the model is unreliable, from its settings and from these images.

    Args:
        settings: of the model file.
        rows: of summary.csv.

    Returns:
        list of HTML.
    """
    lines = []
    kinds = settings.get("data", {}).get("train", {})
    scores = settings.get("scores", {}).get("validation", {})
    if len(kinds) > 1:
        rare = min(kinds, key=kinds.get)
        total = sum(kinds.values())
        lines.append(f"Fewest training images: {text(rare)} ({kinds[rare]:,} of {total:,}).")
    new = [row["image"] for row in rows if kinds and row["modality"] not in kinds]
    if new:
        images = plural(len(new), "image")
        lines.append(f"{images} here of a kind without training images: {text(named(new))}.")
    ap = {kind: score["ap50"] for kind, score in scores.items() if kind != "all"}
    ap = {kind: value for kind, value in ap.items() if value is not None}
    if len(ap) > 1:
        worst = min(ap, key=ap.get)
        lines.append(
            f"Weakest on {text(worst)}: AP at 0.5 of {ap[worst]:.2f}, against "
            f"{max(ap.values()):.2f} at best."
        )
    if has_sizes(settings.get("nucleus_diameter_px", {})):
        lines.append(limit_of_size(settings["nucleus_diameter_px"], rows))
    if scores:
        lines.append(
            "Epoch and thresholds were chosen on the validation images, so their scores are a "
            "little too high."
        )
    lines.append("A research tool: not validated for diagnosis.")
    return lines


def limit_of_size(sizes, rows):
    """Sentences about the nucleus diameters of the training and of these images, as HTML.

    A diameter outside the range is no mistake where predict.py has scaled the image.

    Args:
        sizes: dict with `percentile_5` and `percentile_95`, in px.
        rows: of summary.csv.
    """
    low, high = sizes["percentile_5"], sizes["percentile_95"]
    line = f"The model was trained on nuclei of {low:g} to {high:g} px (5th to 95th percentile)."
    scales = [row["scale"] for row in rows if math.isfinite(row.get("scale", math.nan))]
    if scales:
        line += (
            " To bring nuclei to the best size for the model, the images here were scaled by "
            f"{min(scales):.2g} to {max(scales):.2g}. A wrong scale shows as nuclei in pieces or "
            "merged nuclei."
        )
        extreme = [row["image"] for row in rows if row.get("scale") in SCALE_LIMITS]
        if extreme:
            images = plural(len(extreme), "image")
            line += f" The limit of scale was reached in {images}: {text(named(extreme))}."
        return line
    outside = [
        row["image"]
        for row in rows
        if math.isfinite(row["median_diameter_px"]) and not low <= row["median_diameter_px"] <= high
    ]
    if outside:
        images = plural(len(outside), "image")
        line += (
            f" The median diameter is outside this range in {images}: {text(named(outside))}. "
            "Rescale images of another magnification."
        )
    return line
