"""nuclei.images.check"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nuclei.cli import show_progress
from nuclei.files import MAX_NAMED
from nuclei.images.annotations import OUTLINE_SUFFIXES
from nuclei.images.modality import modality
from nuclei.images.pairs import find_images, find_pairs, find_truths, read_pair
from nuclei.images.reading import IMAGE_SUFFIXES

MAX_FOREGROUND = 0.9  # share of nucleus pixels above which a truth is suspect


class Checked(NamedTuple):
    """What one pair holds: height and width in px, the form of its truth, the diameters of its nuclei in px."""

    modality: str
    height: int
    width: int
    dtype: str
    form: str
    repaired: float
    diameters: np.ndarray


def check_pairs(raw_dir, gt_dir) -> tuple[dict[str, Checked], dict[str, list[str]], list[str]]:
    """Read every pair of a data set.

    Returns: {stem: Checked} of the sound pairs, {kind of problem: offenders}, and the reasons why training could not
    run (none: it can). Raises: as `find_pairs`.
    """
    images = find_images(raw_dir)
    truths = find_truths(gt_dir, images)
    pairs = find_pairs(raw_dir, gt_dir)
    checked: dict[str, Checked] = {}
    problems: dict[str, list[str]] = {
        "images without truth (left out of training)": [images[stem].name for stem in images if stem not in truths],
        "truth without an image (left out of training)": [truths[stem].name for stem in truths if stem not in images],
    }
    problems["other files (passed over)"] = [
        str(path)
        for folder, suffixes in ((raw_dir, IMAGE_SUFFIXES), (gt_dir, OUTLINE_SUFFIXES + IMAGE_SUFFIXES))
        for path in sorted(Path(folder).iterdir())
        if not path.name.lower().endswith(suffixes) and not path.name.startswith(".")
    ]
    broken, empty, full = [], [], []
    for done, (stem, (image_path, truth_path)) in enumerate(pairs.items(), 1):
        show_progress("reading", done, len(pairs), "pairs")
        try:
            image, truth = read_pair(image_path, truth_path)
        except (OSError, ValueError) as error:
            broken.append(str(error))
            continue
        areas = np.bincount(truth.labels.ravel())[1:]
        if areas.size == 0:
            empty.append(truth_path.name)
        elif areas.sum() > MAX_FOREGROUND * truth.labels.size:
            full.append(truth_path.name)
        diameters = 2 * np.sqrt(areas / np.pi)  # of the circle of equal area
        height, width = image.shape[:2]
        checked[stem] = Checked(modality(image), height, width, str(image.dtype), *truth[1:], diameters)
    problems["pairs that cannot be used (unreadable, unequal sizes, or truth in no known form)"] = broken
    problems["truth that is empty (valid: an image without nuclei)"] = empty
    problems[f"truth that is more than {MAX_FOREGROUND:.0%} nucleus (all one value, or black and white swapped)"] = full
    stops = []
    if broken:
        stops.append("repair or remove the pairs that cannot be used")
    if len(checked) < 2:
        stops.append(f"at least two sound pairs are needed, to train and to validate, and there are {len(checked)}")
    if len(full) + len(empty) == len(checked):
        stops.append("no truth shows both nuclei and background")
    return checked, {kind: names for kind, names in problems.items() if names}, stops


def describe_check(checked: dict[str, Checked], problems: dict[str, list[str]], stops: list[str]) -> str:
    """The check in words: a table by modality, what was understood of the truth, the problems, and the verdict."""
    rows = [("modality", "pairs", "height x width, px", "dtype", "form of truth", "nuclei", "median diameter, px")]
    for kind in sorted({pair.modality for pair in checked.values()}):
        group = [pair for pair in checked.values() if pair.modality == kind]
        sizes = sorted({(pair.height, pair.width) for pair in group}, key=lambda size: (size[0] * size[1], size))
        shown = [f"{height} x {width}" for height, width in (sizes if len(sizes) < 3 else (sizes[0], sizes[-1]))]
        forms = sorted({pair.form for pair in group})
        diameters = np.concatenate([pair.diameters for pair in group])
        rows.append(
            (
                kind,
                f"{len(group):,}",
                ", ".join(shown) if len(sizes) < 3 else f"{' ... '.join(shown)} ({len(sizes)} sizes)",
                ", ".join(sorted({pair.dtype for pair in group})),
                ", ".join(f"{form} {sum(pair.form == form for pair in group):,}" for form in forms),
                f"{diameters.size:,}",
                f"{np.median(diameters):.1f}" if diameters.size else "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append("")
    binary = [pair for pair in checked.values() if pair.form.startswith("binary")]
    if binary:
        lines.append(
            f"Binary truth in {len(binary):,} pairs: its connected components are taken as nuclei, so touching nuclei "
            "are merged; give one id per nucleus to teach their separation."
        )
    repaired = {stem: pair.repaired for stem, pair in checked.items() if pair.repaired > 0}
    if repaired:
        worst = max(repaired, key=repaired.__getitem__)
        lines.append(
            f"Soft or JPEG truth in {len(repaired):,} pairs was thresholded: {np.mean(list(repaired.values())):.1%} of "
            f"their pixels were neither background nor nucleus, at most {repaired[worst]:.1%} ({worst})."
        )
    for kind, names in problems.items():
        lines.append(f"{len(names):,} {kind}:")
        lines.extend(f"    {name}" for name in names[:MAX_NAMED])
        if len(names) > MAX_NAMED:
            lines.append(f"    and {len(names) - MAX_NAMED:,} more")
    lines.append(f"Training could not run: {'; '.join(stops)}." if stops else "Training can run on this data.")
    return "\n".join(lines)
