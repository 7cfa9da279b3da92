"""Bring a folder or zip of another layout in: folders of pairs, or one folder for each image.

result = import_folders("stage1_train.zip", "data/dsb2018")
result.images, result.problems
"""

import os
from pathlib import Path

from nuclei.archives import DAMAGED_ARCHIVE
from nuclei.datasets.dsb2018 import dsb2018_members, import_masks
from nuclei.datasets.folder_pairs import folder_pairs, import_pair
from nuclei.datasets.source import Members, Source, open_source
from nuclei.datasets.target import Imported, Target
from nuclei.files import fault_of, first_line
from nuclei.full_disk import DiskFull
from nuclei.images.stems import normal
from nuclei.progress import Progress

UNREADABLE = (OSError, ValueError, *DAMAGED_ARCHIVE)  # errors of one bad image
LAYOUTS = (
    "ID/images/*.png and ID/masks/*.png (DSB2018), tissue images/ and label masks/ (NuInsSeg), "
    "Slide_01/ and GT_01/ (TNBC), images/ and labels/ or masks/ with files of the same names, or "
    "a folder with images.npy and masks.npy or labels.npy (PanNuke, CoNIC)"
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
        pairs = folder_pairs(opened.names)
        taken = {name for files in pairs.values() for name in (*files.images, *files.truths)}
        masks = dsb2018_members(name for name in opened.names if name not in taken)
        members = pairs | masks
        if not any(files.images and files.truths for files in members.values()):
            raise ValueError(
                f"{source} has no layout that is known; expected {LAYOUTS}. A folder that has raw/ "
                "and gt/ already needs no import: python import_data.py FOLDER checks it"
            )
        with Progress("Importing", len(members), "images", log=True) as progress:
            for place, files in members.items():
                progress.add()
                if not files.images or not files.truths:
                    result.images_incomplete += 1
                    continue
                stem = normal(place.rsplit("/", 1)[-1])
                bring = import_pair if place in pairs else import_masks
                try:
                    require_one(stem, files, stems)
                    stems.add(stem)
                    bring(stem, files, opened.fetch, target, result)
                except UNREADABLE as error:
                    if isinstance(error, DiskFull):
                        raise
                    result.problems.append(f"{place}: {fault_in(error, opened)}")
    return result


def require_one(stem: str, files: Members, stems: set[str]) -> None:
    """Raises: ValueError, where there are several images, or the stem is among those of others."""
    if stem in stems:
        raise ValueError(
            "it is there twice; rename one, or import each folder into an --out of its own"
        )
    if len(files.images) > 1:
        raise ValueError(f"{len(files.images)} images; expected one")


def fault_in(error: Exception, opened: Source) -> str:
    """What is wrong with a file of a source, without the temporary folder of a zip."""
    is_ours = isinstance(error, (OSError, ValueError))
    message = fault_of(error) if is_ours else first_line(error)
    message = message or "its member of the zip is cut short"
    return message.replace(f"{opened.scratch}{os.sep}", "")
