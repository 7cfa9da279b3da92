"""Divide the binary masks of a data set by the nuclei that a model found in its images.

    result = divide_set("my_data", "found/labels", "my_data_divided")
    result.masks, result.remarks()

The images of validation and test in `split.csv` keep their truth: no model is to be measured by
what a model found.
"""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nuclei.datasets.divided_mask import divide, is_read_back
from nuclei.datasets.found_nuclei import find_found, read_found
from nuclei.datasets.pairs import TRUTH_SUFFIXES, find_pairs, find_truths, require_same_size
from nuclei.datasets.split import read_split
from nuclei.datasets.target import Imported, Target
from nuclei.files import copy_file, fault_of, named, plural
from nuclei.full_disk import DiskFull
from nuclei.images.folder import find_images
from nuclei.images.reading import IMAGE_SUFFIXES, read_image
from nuclei.images.stems import suffix_of
from nuclei.images.writing import in_16_bits, write_png
from nuclei.progress import Progress
from nuclei.truth.forms import BINARY, BINARY_LOSSY
from nuclei.truth.masks import read_truth


@dataclass
class DividedSet(Imported):
    """What became of a data set; see `Imported` for the rest.

    Attributes:
        masks: binary masks that were divided.
        regions_divided: regions that became several nuclei.
        regions_void: regions of which nobody can tell.
        masks_already_there: stems of binary masks whose image has a truth in the new set.
        masks_without_found: stems of masks that stay as they are, since nobody looked for nuclei.
        masks_unclear: stems of masks that stay as they are, since their division would be misread.
        stems_alone: stems in the table of the split that no image has.
        has_split: whether there is such a table.
    """

    masks: int = 0
    regions_divided: int = 0
    regions_void: int = 0
    masks_already_there: list[str] = field(default_factory=list)
    masks_without_found: list[str] = field(default_factory=list)
    masks_unclear: list[str] = field(default_factory=list)
    stems_alone: list[str] = field(default_factory=list)
    has_split: bool = False

    def __str__(self) -> str:
        return (
            f"{super().__str__()}; {plural(self.masks, 'mask')} divided: "
            f"{plural(self.regions_divided, 'region')} into several nuclei, {self.regions_void:,} "
            "void"
        )

    def remarks(self) -> list[str]:
        """What the user should know beside the numbers, a line each."""
        lines = super().remarks()
        if self.masks and not self.has_split:
            lines.append(
                "Without split.csv all masks are divided. Scores of train.py on some of them then "
                "tell how well a model agrees with the one that divided them"
            )
        return lines

    def faults(self) -> list[str]:
        """What was not done, a line each."""
        lines = super().faults()
        for stems, reason in (
            (self.masks_already_there, "their images have a truth there; --overwrite replaces it"),
            (self.masks_without_found, "there are no labels for them"),
            (self.masks_unclear, "nuclei, void and specks would be taken for one another"),
        ):
            if stems:
                lines.append(
                    f"Not divided, {plural(len(stems), 'mask')} ({named(stems)}): {reason}"
                )
        if self.stems_alone:
            names = plural(len(self.stems_alone), "name")
            lines.append(f"No image has {names} of split.csv: {named(self.stems_alone)}")
        return lines


def divide_set(data_dir, found_dir, out_dir, overwrite: bool = False) -> DividedSet:
    """Copy a data set to another folder, with nuclei in place of the regions of binary masks.

    Truths of other forms are copied as they are. Pairs that are already there stay, unless
    `overwrite`. A pair that cannot be read is named in the result, and the others are written.

    Args:
        data_dir: holds raw/, gt/ and perhaps split.csv. With it only the images for training are
            divided.
        found_dir: label images of found nuclei, with the stems of the images; or what predict.py
            wrote, with these in labels/.
        out_dir: gets raw/, gt/ and the split.
        overwrite: whether pairs that are there are replaced.

    Raises:
        FileNotFoundError, ValueError: as `find_pairs`, `find_found` and `read_split`; ValueError
            also where `out_dir` holds the masks themselves, or a set of another split.
        DiskFull: there is no space.
    """
    data_dir, out_dir = Path(data_dir), Path(out_dir)
    pairs = find_pairs(data_dir / "raw", data_dir / "gt")
    require_other_set(data_dir, out_dir, overwrite)
    found = find_found(Path(found_dir), {*pairs})
    result = DividedSet()
    name_lone_files(data_dir, pairs, result)
    split = None
    if has_table(data_dir):
        split, result.has_split = read_split(data_dir / "split.csv"), True
        copy_file(data_dir / "split.csv", out_dir / "split.csv")
        result.stems_alone += [stem for stem in split if stem not in pairs]
    shared = Counter(truth_path for _, truth_path in pairs.values())
    target = Target.of(out_dir, overwrite, pairs)
    with Progress("Dividing", len(pairs), "pairs", log=True) as progress:
        for stem, paths in pairs.items():
            progress.add()
            is_to_train = split is None or split.get(stem) == "train"
            try:
                write_pair(stem, paths, found, is_to_train, shared, target, result)
            except (OSError, ValueError) as error:
                if isinstance(error, DiskFull):
                    raise
                result.problems.append(f"{stem}: {fault_of(error)}")
    return result


def require_other_set(data_dir: Path, out_dir: Path, overwrite: bool) -> None:
    """Raises: ValueError, where a folder may not get the division of a set: see `divide_set`."""
    for place in (out_dir, out_dir / "gt"):
        masks = data_dir / place.relative_to(out_dir)
        if place.resolve() == masks.resolve():
            raise ValueError(f"{place} holds the masks themselves; give --out another folder")
    table, own_table = out_dir / "split.csv", data_dir / "split.csv"
    if not has_table(data_dir) and has_table(out_dir):
        raise ValueError(
            f"{table} is there, and there is no {own_table}; give --out another folder, or remove "
            "that file"
        )
    is_new = not has_table(out_dir) and not (out_dir / "gt").is_dir()
    if overwrite or is_new or not has_table(data_dir):
        return
    if not has_table(out_dir) or table.read_bytes() != own_table.read_bytes():
        raise ValueError(
            f"{out_dir} was divided by another split than that of {own_table}; give --out another "
            "folder, or --overwrite"
        )


def has_table(folder: Path) -> bool:
    """Whether a set says which images are for training."""
    return os.path.lexists(folder / "split.csv")


def name_lone_files(data_dir: Path, pairs: Iterable[str], result: DividedSet) -> None:
    """Tell `result` the images without a truth and the truths without an image."""
    images = find_images(data_dir / "raw")
    truths = find_truths(data_dir / "gt", images)
    result.images_alone += [path.name for stem, path in images.items() if stem not in pairs]
    result.truths_alone += [path.name for stem, path in truths.items() if stem not in pairs]


def write_pair(
    stem: str,
    paths: tuple[Path, Path],
    found: dict[str, Path],
    is_to_train: bool,
    shared: Counter,
    target: Target,
    result: DividedSet,
) -> None:
    """Write one pair, and count it in `result`.

    Args:
        stem: of the pair.
        paths: of the image and its truth.
        found: of `find_found`.
        is_to_train: whether the truth is divided if it is a binary mask.
        shared: how many images each file of truth describes.
        target: gets the pair.
        result: what counts it.

    Raises:
        FileNotFoundError, ValueError: a file cannot be read or does not fit.
    """
    image_path, truth_path = paths
    image = read_image(image_path)
    truth = read_truth(truth_path, image.shape[:2], stem=stem)
    require_same_size(image_path, image, truth_path, truth)
    suffixes = suffix_of(image_path, IMAGE_SUFFIXES), suffix_of(truth_path, TRUTH_SUFFIXES)
    missing = target.paths_to_write(stem, image, *suffixes)
    mask = None
    if is_to_train and truth.form in (BINARY, BINARY_LOSSY):
        if "gt" not in missing:
            result.masks_already_there.append(stem)
        elif stem not in found:
            result.masks_without_found.append(stem)
        else:
            mask = divide(
                truth.labels, read_found(found[stem], stem, truth.labels.shape), truth.void
            )
            if not is_read_back(mask.labels):
                result.masks_unclear.append(stem)
                mask = None
    if not missing:
        result.images_already_there += 1
        return
    if "raw" in missing:
        copy_file(image_path, missing["raw"])
    if "gt" in missing and (mask or shared[truth_path] > 1):
        missing["gt"] = target.out_dir / "gt" / f"{stem}.png"
        write_png(missing["gt"], in_16_bits(mask.labels if mask else truth.labels))
    elif "gt" in missing:
        copy_file(truth_path, missing["gt"])
    if mask:
        result.masks += 1
        result.regions_divided += mask.num_divided
        result.regions_void += mask.num_void
    num_nuclei = mask.num_nuclei if mask else int(truth.labels.max(initial=0))
    target.finish(stem, missing, num_nuclei, result)
