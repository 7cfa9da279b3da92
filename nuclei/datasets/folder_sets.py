"""Bring a folder or zip of another layout in: folders of pairs, or one folder for each image.

result = import_folders("stage1_train.zip", "data/dsb2018")
result.images, result.problems
"""

import os
from collections.abc import Iterable
from pathlib import Path

from nuclei.archives import DAMAGED_ARCHIVE
from nuclei.datasets.dsb2018 import dsb2018_members, import_masks
from nuclei.datasets.folder_pairs import by_folder, folder_pairs, import_pair
from nuclei.datasets.source import Fetch, Members, Source, files_below, open_source
from nuclei.datasets.target import Imported, Target
from nuclei.files import fault_of, first_line, named
from nuclei.full_disk import DiskFull
from nuclei.images.stems import normal
from nuclei.progress import Progress
from nuclei.truth.masks import read_truth

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
    return any(
        files.images and files.truths
        for files in sorted_members(path.as_posix() for path in files_below(Path(source)))[
            0
        ].values()
    )


def import_folders(source, out_dir, overwrite: bool = False) -> Imported:
    """Bring a folder or zip into `out_dir/raw` and `out_dir/gt`.

    Pairs that are already there stay as they are, unless `overwrite`; so a second run completes a
    first one. An image that cannot be read is named in the result, and the others are imported.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: the source has another layout or is an unsafe archive.
    """
    out_dir, result, stems = Path(out_dir), Imported(), set()
    target = Target.of(out_dir, overwrite)
    with open_source(Path(source).resolve(), out_dir) as opened:
        members, pairs = sorted_members(opened.names)
        if not any(files.images and files.truths for files in members.values()):
            raise ValueError(describe_no_layout(source, opened.names))
        with Progress("Importing", len(members), "images", log=True) as progress:
            for place, files in members.items():
                progress.add()
                if not files.images:
                    result.truths_alone.append(place)
                elif not files.truths:
                    result.images_alone.append(place)
                else:
                    stem = normal(place.rsplit("/", 1)[-1])
                    bring = import_pair if place in pairs else import_one_folder
                    try:
                        require_one(stem, files, place in pairs, stems)
                        stems.add(stem)
                        bring(stem, files, opened.fetch, target, result)
                    except UNREADABLE as error:
                        if isinstance(error, DiskFull):
                            raise
                        result.problems.append(f"{place}: {fault_in(error, opened)}")
    return result


def describe_no_layout(source, names: Iterable[str]) -> str:
    """What is in a source of which nothing can be brought in, and what is expected."""
    folders = sorted({folder.rpartition("/")[2] for folder in by_folder(names)})
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


def import_one_folder(
    stem: str, files: Members, fetch: Fetch, target: Target, result: Imported
) -> None:
    """Bring in one image and the masks beside it; a single mask may show all of its nuclei.

    Raises:
        FileNotFoundError, ValueError: the image or a mask cannot be read.
    """
    is_whole = len(files.truths) == 1 and read_truth(fetch(files.truths[0])).labels.max() > 1
    bring = import_pair if is_whole else import_masks
    bring(stem, files, fetch, target, result)


def fault_in(error: Exception, opened: Source) -> str:
    """What is wrong with a file of a source, without the temporary folder of a zip."""
    is_ours = isinstance(error, (OSError, ValueError))
    message = fault_of(error) if is_ours else first_line(error)
    message = message or "its member of the zip is cut short"
    return message.replace(f"{opened.scratch}{os.sep}", "")
