"""Check a data set before training: what it holds, what is wrong, and whether training can run.

    check = check_pairs("data/raw", "data/gt")
    print(describe_check(check))

Every pair is read once. A bad pair does not stop the check, which names all of them.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nuclei.cli import Notes
from nuclei.datasets.agreement import Agreement
from nuclei.datasets.pairs import (
    AUTOMATIC,
    TRUTH_SUFFIXES,
    Reading,
    find_pairs,
    find_truths,
    read_pair,
)
from nuclei.files import MAX_NAMED, fault_of
from nuclei.images.folder import find_images
from nuclei.images.labels import equivalent_diameters
from nuclei.images.modality import modality
from nuclei.images.reading import IMAGE_SUFFIXES
from nuclei.images.stems import TRUTH_ENDS, stem_of, without_end
from nuclei.progress import Progress
from nuclei.truth.forms import BINARY, BINARY_LOSSY, FEW_VALUES
from nuclei.truth.remarks import Remarks

MAX_FOREGROUND = 0.9  # share of nucleus pixels above which a truth is suspect
BROKEN = "pairs that cannot be used (unreadable, unequal sizes, or truth in no known form)"
HEADER = (
    "modality",
    "pairs",
    "height x width, px",
    "dtype",
    "form of truth",
    "nuclei",
    "median diameter, px",
)


class CheckedPair(NamedTuple):
    """What one pair holds.

    Attributes:
        image: name of the file.
        truth: name of the file.
        modality: as `modality` says.
        height: in pixels.
        width: in pixels.
        dtype: of the image as read.
        form: of the truth, see `Truth`.
        repaired: share of the truth's pixels that was neither background nor nucleus, 0...1.
        left_out: of the truth, see `Truth`.
        diameters_px: (n,) float, of the circle of equal area, one for each nucleus.
    """

    image: str
    truth: str
    modality: str
    height: int
    width: int
    dtype: str
    form: str
    repaired: float
    left_out: str
    diameters_px: np.ndarray


class Check(NamedTuple):
    """What a data set holds.

    Attributes:
        pairs: the sound pairs by stem.
        broken: what is wrong with each pair that cannot be used.
        problems: a kind of other problem, in words, and the offenders.
        stops: reasons why training could not run; none: it can.
        meanings: lines that say what the values of the truth were taken for.
    """

    pairs: dict[str, CheckedPair]
    broken: list[str]
    problems: list[tuple[str, list[str]]]
    stops: list[str]
    meanings: list[str]


def check_pairs(
    raw_dir, gt_dir, reading: Reading = AUTOMATIC, agreement: Agreement | None = None
) -> Check:
    """Read every pair of a data set, and say what is chosen in files of several planes.

    Args:
        raw_dir, gt_dir: folders of images and truths with the same stems.
        reading: how the files are read.
        agreement: gets each sound pair, to compare it with a model; None for no comparison.

    Raises:
        FileNotFoundError, ValueError: as `find_pairs`.
    """
    pairs: dict[str, CheckedPair] = {}
    broken, empty, full, remarks = [], [], [], Remarks()
    paths = find_pairs(raw_dir, gt_dir)
    with Progress("Reading", len(paths), "pairs", log=True) as progress, Notes() as notes:
        for stem, (image_path, truth_path) in paths.items():
            progress.add()
            try:
                image, truth = read_pair(image_path, truth_path, reading, notes)
            except (OSError, ValueError) as error:
                broken.append(fault_of(error))
                continue
            name = truth_path.name if stem in truth_path.name else image_path.name
            remarks.add(name, image, truth)
            if agreement is not None:
                agreement.add(name, image, truth)
            areas_px = np.bincount(truth.labels.ravel())[1:]
            if areas_px.size == 0:
                empty.append(truth_path.name)
            elif areas_px.sum() > MAX_FOREGROUND * truth.labels.size:
                full.append(truth_path.name)
            pairs[stem] = CheckedPair(
                image=image_path.name,
                truth=truth_path.name,
                modality=modality(image),
                height=image.shape[0],
                width=image.shape[1],
                dtype=str(image.dtype),
                form=truth.form,
                repaired=truth.repaired,
                left_out=truth.left_out,
                diameters_px=equivalent_diameters(areas_px),
            )
    problems = [
        *unpaired_files(raw_dir, gt_dir),
        (
            "truth of which something was left out",
            [f"{pair.truth}: {pair.left_out}" for pair in pairs.values() if pair.left_out],
        ),
        ("truth that is empty (valid: an image without nuclei)", empty),
        (
            f"truth that is more than {MAX_FOREGROUND:.0%} nucleus (all one value, or black and "
            "white swapped)",
            full,
        ),
        *remarks.problems(),
    ]
    problems = [(kind, names) for kind, names in problems if names]
    stops = reasons_to_stop(len(pairs), len(broken), len(full) + len(empty))
    return Check(pairs, broken, problems, stops, remarks.meanings())


def reasons_to_stop(num_pairs: int, num_broken: int, num_one_sided: int) -> list[str]:
    """Why training could not run, in words; an empty list where it can.

    Args:
        num_pairs: sound pairs.
        num_broken: pairs that cannot be used.
        num_one_sided: sound pairs whose truth is all nucleus or all background.
    """
    stops = []
    if num_broken:
        stops.append("repair or remove the pairs that cannot be used")
    if num_pairs < 2:
        stops.append(
            f"at least two sound pairs are needed, to train and to validate, and there are "
            f"{num_pairs}"
        )
    if num_one_sided == num_pairs:
        stops.append("no truth shows both nuclei and background")
    return stops


def unpaired_files(raw_dir, gt_dir) -> list[tuple[str, list[str]]]:
    """The files of a data set that belong to no pair: (kind of problem, names)."""
    images = find_images(raw_dir)
    truths = find_truths(gt_dir, images)
    expected = ((raw_dir, IMAGE_SUFFIXES), (gt_dir, TRUTH_SUFFIXES))
    others = [
        str(path)
        for folder, suffixes in expected
        for path in sorted(Path(folder).iterdir())
        # Of hidden files, only those that look like images or truth, and not macOS's companions.
        if path.name.lower().endswith(suffixes) == path.name.startswith(".")
        and not path.name.startswith("._")
    ]
    return [
        (
            "images without truth (left out of training)",
            [path.name for stem, path in images.items() if stem not in truths],
        ),
        (
            "truth without an image (left out of training)",
            [
                # A file for a whole set is named with the image that it describes.
                path.name if stem in (own, without_end(own, TRUTH_ENDS)) else f"{path.name}: {stem}"
                for stem, path in truths.items()
                if stem not in images and (own := stem_of(path, TRUTH_SUFFIXES))
            ],
        ),
        ("other files (left out)", others),
    ]


def describe_check(check: Check) -> str:
    """The check in words: a table by modality, the forms of the truth, problems and verdict."""
    lines = [*describe_modalities(check.pairs), ""]
    binary = [pair for pair in check.pairs.values() if pair.form in (BINARY, BINARY_LOSSY)]
    if binary:
        lines.append(
            f"Binary truth in {len(binary):,} pairs: its connected components are taken as nuclei, "
            "so touching nuclei are merged; one id per nucleus would teach their separation "
            "(docs/training.md: how a model divides masks)."
        )
    few = sum(pair.form == FEW_VALUES for pair in check.pairs.values())
    if few:
        lines.append(
            f"Truth of few values in {few:,} pairs: touching nuclei of one value are merged."
        )
    lines.extend(check.meanings)
    repaired = {stem: pair.repaired for stem, pair in check.pairs.items() if pair.repaired > 0}
    if repaired:
        worst = max(repaired, key=repaired.__getitem__)
        lines.append(
            f"Soft or JPEG truth in {len(repaired):,} pairs was repaired: "
            f"{np.mean(list(repaired.values())):.1%} of their pixels were neither background nor "
            f"nucleus, at most {repaired[worst]:.1%} ({worst})."
        )
    broken = [(BROKEN, check.broken)] if check.broken else []
    for kind, names in broken + check.problems:
        lines.append(f"{len(names):,} {kind}:")
        lines.extend(f"    {name}" for name in names[:MAX_NAMED])
        if len(names) > MAX_NAMED:
            lines.append(f"    and {len(names) - MAX_NAMED:,} more")
    if check.stops:
        lines.append(f"Training could not run: {'; '.join(check.stops)}.")
    else:
        lines.append("Training can run on this data.")
    return "\n".join(lines)


def describe_modalities(pairs: dict[str, CheckedPair]) -> list[str]:
    """Lines of a table with one row for each modality."""
    rows = [HEADER]
    for kind in sorted({pair.modality for pair in pairs.values()}):
        group = [pair for pair in pairs.values() if pair.modality == kind]
        forms = sorted({pair.form for pair in group})
        counts = [f"{form} {sum(pair.form == form for pair in group):,}" for form in forms]
        diameters_px = np.concatenate([pair.diameters_px for pair in group])
        rows.append(
            (
                kind,
                f"{len(group):,}",
                describe_sizes([(pair.height, pair.width) for pair in group]),
                ", ".join(sorted({pair.dtype for pair in group})),
                ", ".join(counts),
                f"{diameters_px.size:,}",
                f"{np.median(diameters_px):.1f}" if diameters_px.size else "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def describe_sizes(sizes: list[tuple[int, int]]) -> str:
    """Up to two sizes by name; of more, the smallest and the largest area, and the count."""
    distinct = sorted(set(sizes), key=lambda size: (size[0] * size[1], size))
    words = [f"{height} x {width}" for height, width in distinct]
    if len(words) < 3:
        return ", ".join(words)
    return f"{words[0]} ... {words[-1]} ({len(words)} sizes)"
