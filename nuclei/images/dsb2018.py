"""nuclei.images.dsb2018"""

import contextlib
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from nuclei.cli import show_progress
from nuclei.files import refuse_unsafe_archive, replacing
from nuclei.images.labels import merge_masks
from nuclei.images.masks import read_nucleus
from nuclei.images.pairs import image_files
from nuclei.images.reading import IMAGE_SUFFIXES, read_image


def dsb2018_members(names: Iterable[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Sort the names of a DSB2018 tree, `.../ID/images/*.png` and `.../ID/masks/*.png`: {".../ID": (images, masks)}."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for name in sorted(names):
        *above, kind, file = name.split("/")
        hidden = file.startswith(".") or "__MACOSX" in above
        if above and kind in ("images", "masks") and Path(file).suffix.lower() in IMAGE_SUFFIXES and not hidden:
            found.setdefault("/".join(above), ([], []))[kind == "masks"].append(name)
    return found


def import_dsb2018(source, out_dir, overwrite: bool = False) -> tuple[dict[str, int], list[str]]:
    """Bring a DSB2018/BBBC038 folder or zip into `out_dir/raw` (the image as it is) and `out_dir/gt` (16-bit ids).

    Stems that are there already are kept as they are unless `overwrite`; so a second run completes a first one.

    Returns: counts by name, and one message for each image that could not be brought in.
    Raises: FileNotFoundError; ValueError where the source is no such layout or an unsafe archive.
    """
    source, out_dir = Path(source).resolve(), Path(out_dir)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; expected a DSB2018 folder or zip")
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if source.is_dir():
            files = {f"{source.name}/{path.relative_to(source).as_posix()}": path for path in source.rglob("*.*")}
            fetch = files.__getitem__
        else:
            try:
                archive = stack.enter_context(zipfile.ZipFile(source))
            except zipfile.BadZipFile as error:
                raise ValueError(f"{source} is no whole zip ({error}); expected a DSB2018 folder or zip") from error
            refuse_unsafe_archive(source, archive)
            files = {f"{source.stem}/{member.filename}": member for member in archive.infolist()}

            def fetch(name: str) -> Path:
                # One member at a time, to a folder that goes at the end, under the last part of its name only.
                for earlier in scratch.iterdir():
                    earlier.unlink()
                path = scratch / Path(name).name
                with archive.open(files[name]) as packed, open(path, "wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
                return path

        members = dsb2018_members(files)
        if not any(images and masks for images, masks in members.values()):
            raise ValueError(
                f"{source} is no DSB2018 layout; expected ID/images/*.png and ID/masks/*.png in it. A folder that has "
                "raw/ and gt/ already needs no import: python import_data.py FOLDER checks it"
            )
        outcomes = ("imported", "already there", "without image or masks", "nuclei", "pixels claimed twice")
        counts = dict.fromkeys(outcomes, 0)
        problems: list[str] = []
        seen: set[str] = set()
        there = {part: image_files(out_dir / part) for part in ("raw", "gt")}
        for done, (place, (images, masks)) in enumerate(members.items(), 1):
            show_progress("importing", done, len(members), "images")
            stem = place.rsplit("/", 1)[-1]
            if not masks or not images:
                counts["without image or masks"] += 1
                continue
            if stem not in seen and stem in there["raw"] and stem in there["gt"] and not overwrite:
                counts["already there"] += 1
                continue
            try:
                if len(images) > 1 or stem in seen:
                    raise ValueError("it is there twice" if stem in seen else f"{len(images)} images; expected one")
                seen.add(stem)
                shape = read_image(fetch(images[0])).shape[:2]
                labels, claimed = merge_masks((read_nucleus(fetch(name), shape) for name in masks), shape)
                written = []
                if overwrite or stem not in there["gt"]:
                    written.append(out_dir / "gt" / f"{stem}.png")
                    with replacing(written[-1]) as temporary:
                        Image.fromarray(labels.astype(np.uint16)).save(temporary)
                if overwrite or stem not in there["raw"]:
                    written.append(out_dir / "raw" / f"{stem}{Path(images[0]).suffix.lower()}")
                    with replacing(written[-1]) as temporary:
                        shutil.copyfile(fetch(images[0]), temporary)
            except (ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
                problems.append(f"{place}: {str(error).replace(f'{scratch}{os.sep}', '')}")
                continue
            for path in written:  # the same stem with another suffix would be a second truth
                for old in there[path.parent.name].get(stem, ()):
                    if old != path:
                        old.unlink(missing_ok=True)
                there[path.parent.name][stem] = [path]
            counts["imported"] += 1
            counts["nuclei"] += int(labels.max(initial=0))
            counts["pixels claimed twice"] += claimed
    return counts, problems
