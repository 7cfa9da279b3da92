"""Bring a folder or zip of another layout in: folders of pairs, or one folder for each image.

result = import_folders("stage1_train.zip", "data/dsb2018")
result.images, result.problems
"""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from nuclei.archives import DAMAGED_ARCHIVE
from nuclei.datasets.dsb2018 import dsb2018_members, import_masks
from nuclei.datasets.folder_pairs import by_folder, folder_pairs, import_pair
from nuclei.datasets.source import Members, Source, names_below, open_source
from nuclei.datasets.target import Imported, Target
from nuclei.files import fault_of, first_line, named
from nuclei.full_disk import DiskFull
from nuclei.images.stems import normal
from nuclei.progress import Progress

UNREADABLE = (OSError, ValueError, *DAMAGED_ARCHIVE)  # errors of one bad image
LAYOUTS = (
    "ID/images/*.png and ID/masks/*.png (DSB2018), tissue images/ and label masks/ (NuInsSeg), "
    "Slide_01/ and GT_01/ (TNBC), images/ and labels/ or masks/ with files of the same names, or "
    "a folder with images.npy and masks.npy or labels.npy (PanNuke, CoNIC)"
)


def sorted_members(names: Iterable[str]) -> tuple[dict[str, Members], set[str]]:
    """All images of a source with their truths, and which of them are pairs of `folder_pairs`."""
    names = list(names)
    pairs, folders = folder_pairs(names)
    rest = [name for name in names if name.rpartition("/")[0] not in folders]
    return pairs | dsb2018_members(rest), {*pairs}


def has_folder_pairs(source) -> bool:
    """Whether a folder holds images with their truths, beside whatever else."""
    members, _ = sorted_members(names_below(Path(source)))
    return any(files.images and files.truths for files in members.values())


def import_folders(source, out_dir, overwrite: bool = False) -> Imported:
    """Bring a folder or zip into `out_dir/raw` and `out_dir/gt`.

    Pairs that are already there stay as they are, unless `overwrite`; so a second run completes a
    first one. An image that cannot be read is named in the result, and the others are imported.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: the source has another layout or is an unsafe archive.
    """
    out_dir, result = Path(out_dir), Imported()
    with open_source(Path(source).resolve(), out_dir) as opened:
        members, pairs = sorted_members(opened.names)
        if not any(files.images and files.truths for files in members.values()):
            raise ValueError(describe_no_layout(source, opened.names))
        stems = {place: normal(place.rsplit("/", 1)[-1]) for place in members}
        target, done = Target.of(out_dir, overwrite, stems.values()), set()
        others = [files for place, files in members.items() if place not in pairs]
        has_masks_of_one = any(len(files.truths) > 1 for files in others)
        import_image = partial(import_masks, has_masks_of_one=has_masks_of_one)
        with Progress("Importing", len(members), "images", log=True) as progress:
            for place, files in members.items():
                progress.add()
                if not files.images or not files.truths:
                    result.truths_alone += files.truths
                    result.images_alone += files.images
                    continue
                stem = stems[place]
                try:
                    require_one(stem, files, place in pairs, done)
                    done.add(stem)
                    bring = import_pair if place in pairs else import_image
                    bring(stem, files, opened.fetch, target, result)
                except UNREADABLE as error:
                    if isinstance(error, DiskFull):
                        raise
                    result.problems.append(f"{place}: {fault_in(error, opened)}")
    return result


def describe_no_layout(source, names: Iterable[str]) -> str:
    """What is in a source of which nothing can be brought in, and what is expected."""
    folders = sorted({folder.partition("/")[2] for folder in by_folder(names)} - {""})
    there = f" (folders: {named(folders)})" if folders else ""
    return (
        f"{source} has no layout that is known{there}; expected {LAYOUTS}. A folder that has raw/ "
        "and gt/ already needs no import: python import_data.py FOLDER checks it"
    )


def require_one(stem: str, files: Members, is_pair: bool, stems: set[str]) -> None:
    """Raises: ValueError, where a stem is there twice, or several files are where one belongs."""
    if stem in stems:
        raise ValueError(
            "it is there twice; rename one, or import each folder into an --out of its own"
        )
    if len(files.images) > 1 and not is_pair:
        raise ValueError(
            f"{len(files.images)} images and no mask of the name of one of them; expected one "
            "image with a mask for each nucleus, or masks of the same names as the images"
        )
    for several in (files.images, files.truths if is_pair else []):
        if len(several) > 1:
            names = named(name.rpartition("/")[2] for name in several)
            raise ValueError(f"{len(several)} files of one name ({names}); keep one of them")


def fault_in(error: Exception, opened: Source) -> str:
    """What is wrong with a file of a source, without the temporary folder of a zip."""
    is_ours = isinstance(error, (OSError, ValueError))
    message = fault_of(error) if is_ours else first_line(error)
    message = message or "its member of the zip is cut short"
    return message.replace(f"{opened.scratch}{os.sep}", "")
