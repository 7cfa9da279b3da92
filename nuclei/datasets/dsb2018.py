"""Bring the layout of DSB2018 (BBBC038) in: one folder per image, one mask per nucleus.

    stage1_train/ID/images/ID.png   ->  out/raw/ID.png      the image as it is
    stage1_train/ID/masks/*.png     ->  out/gt/ID.png       16-bit ids

The source is a folder or a zip. A zip is checked before anything is unpacked.
"""

import contextlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nuclei.archives import DAMAGED_ARCHIVE, is_companion, refuse_unsafe_archive
from nuclei.datasets.pairs import TRUTH_SUFFIXES
from nuclei.files import fault_of, first_line, replacing
from nuclei.full_disk import DiskFull, explaining_full_disk
from nuclei.images.folder import image_files
from nuclei.images.labels import merge_masks
from nuclei.images.reading import IMAGE_SUFFIXES, read_image
from nuclei.images.stems import normal
from nuclei.images.writing import in_16_bits, write_png
from nuclei.leftovers import temporary_name
from nuclei.progress import Progress
from nuclei.truth.masks import read_nucleus

UNREADABLE = (OSError, ValueError, *DAMAGED_ARCHIVE)  # errors of one bad image


class Members(NamedTuple):
    """The names of the files of one image: one image is expected, and a mask for each nucleus."""

    images: list[str]
    masks: list[str]


class Source(NamedTuple):
    """An open folder or zip.

    Attributes:
        names: of all files, with "/" between folders.
        fetch: from a name to a path that can be read until the next call.
        scratch: folder that members of a zip are unpacked to.
    """

    names: Iterable[str]
    fetch: Callable[[str], Path]
    scratch: Path


@dataclass
class Target:
    """The folder that pairs are written to, and the files that it holds already."""

    out_dir: Path
    overwrite: bool
    present: dict[str, dict[str, list[Path]]]  # {"raw" or "gt": {stem: paths}}

    @classmethod
    def of(cls, out_dir: Path, overwrite: bool) -> "Target":
        """The target of a folder, which may be new."""
        raw, truths = image_files(out_dir / "raw"), image_files(out_dir / "gt", TRUTH_SUFFIXES)
        return cls(out_dir, overwrite, {"raw": raw, "gt": truths})

    def paths_to_write(self, stem: str, image_suffix: str, image: np.ndarray) -> dict[str, Path]:
        """{"raw" or "gt": path} of the files that are missing, or of both to be overwritten.

        Empty where the image is there and has a truth: both stay as they are.

        Args:
            stem: of the pair.
            image_suffix: of the image.
            image: (H, W, 3), to tell whether an image that is there is the same.

        Raises:
            ValueError: another image is there under this stem, or something that is no file; or
                the files would be hidden.
        """
        if stem.startswith("."):  # no program of ours reads such files, and some are temporary
            raise ValueError(f"{stem} begins with a dot, so its files would be hidden; rename it")
        paths = {
            "gt": self.out_dir / "gt" / f"{stem}.png",
            "raw": self.out_dir / "raw" / f"{stem}{image_suffix}",
        }
        if self.overwrite:
            return paths
        missing = {part: path for part, path in paths.items() if stem not in self.present[part]}
        for path in missing.values():
            if os.path.lexists(path):
                raise ValueError(f"{path} stands in its place and is no image; move it away")
        for there in self.present["raw"].get(stem, ())[:1]:
            if not np.array_equal(read_image(there), image):
                raise ValueError(
                    f"{there} is another image of this name; move it away, or give --out another "
                    "folder (--overwrite replaces it)"
                )
        return missing

    def keep_only(self, stem: str, paths: dict[str, Path]) -> None:
        """Remove files of this stem with another suffix; two of them would be ambiguous."""
        for part, path in paths.items():
            for old in self.present[part].get(stem, ()):
                # Some disks do not tell a from A: then both names are the file just written.
                if old != path and not (old.exists() and path.exists() and old.samefile(path)):
                    old.unlink(missing_ok=True)
            self.present[part][stem] = [path]


@dataclass
class Imported:
    """What an import did: numbers of images, nuclei and pixels, and a message for each failure."""

    images: int = 0
    images_already_there: int = 0
    images_incomplete: int = 0  # without image or without masks
    nuclei: int = 0
    pixels_claimed_twice: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.images:,} imported, {self.images_already_there:,} already there, "
            f"{self.images_incomplete:,} without image or masks, {self.nuclei:,} nuclei, "
            f"{self.pixels_claimed_twice:,} pixels claimed twice"
        )


def import_dsb2018(source, out_dir, overwrite: bool = False) -> Imported:
    """Bring a DSB2018 folder or zip into `out_dir/raw` and `out_dir/gt`.

    Pairs that are already there stay as they are, unless `overwrite`; so a second run completes a
    first one. An image that cannot be read is named in the result, and the others are imported.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: the source has another layout or is an unsafe archive.
    """
    out_dir, result, stems = Path(out_dir), Imported(), set()
    target = Target.of(out_dir, overwrite)
    with open_source(Path(source).resolve(), out_dir) as opened:
        members = dsb2018_members(opened.names)
        if not any(files.images and files.masks for files in members.values()):
            raise ValueError(
                f"{source} is no DSB2018 layout; expected ID/images/*.png and ID/masks/*.png in "
                "it. A folder that has raw/ and gt/ already needs no import: python "
                "import_data.py FOLDER checks it"
            )
        with Progress("Importing", len(members), "images", log=True) as progress:
            for place, files in members.items():
                progress.add()
                stem = normal(place.rsplit("/", 1)[-1])
                if not files.images or not files.masks:
                    result.images_incomplete += 1
                else:
                    try:
                        if stem in stems:
                            raise ValueError("it is there twice")
                        stems.add(stem)
                        if len(files.images) > 1:
                            raise ValueError(f"{len(files.images)} images; expected one")
                        import_image(stem, files, opened.fetch, target, result)
                    except UNREADABLE as error:
                        if isinstance(error, DiskFull):
                            raise
                        is_ours = isinstance(error, (OSError, ValueError))
                        message = fault_of(error) if is_ours else first_line(error)
                        message = message or "its member of the zip is cut short"
                        message = message.replace(f"{opened.scratch}{os.sep}", "")
                        result.problems.append(f"{place}: {message}")
    return result


def import_image(
    stem: str, files: Members, fetch: Callable[[str], Path], target: Target, result: Imported
) -> None:
    """Bring one image and its truth into the target and count them in `result`.

    Raises:
        FileNotFoundError, ValueError: the image or a mask cannot be read.
    """
    image = read_image(fetch(files.images[0]))
    paths = target.paths_to_write(stem, Path(files.images[0]).suffix.lower(), image)
    if not paths:
        result.images_already_there += 1
        return
    shape = image.shape[:2]
    masks = (read_nucleus(fetch(name), shape) for name in files.masks)
    labels, num_claimed_twice = merge_masks(masks, shape)
    if "gt" in paths:
        write_png(paths["gt"], in_16_bits(labels))
    if "raw" in paths:
        with replacing(paths["raw"]) as temporary:
            shutil.copyfile(fetch(files.images[0]), temporary)
    target.keep_only(stem, paths)
    result.images += 1
    result.nuclei += int(labels.max(initial=0))
    result.pixels_claimed_twice += num_claimed_twice


@contextlib.contextmanager
def open_source(source: Path, out_dir: Path) -> Iterator[Source]:
    """Open a folder or a zip of images.

    Args:
        source: the folder or zip.
        out_dir: members of a zip are unpacked there, one at a time, to a temporary folder.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: it is no zip, or one that is not safe to unpack.
    """
    if not (source.is_file() or source.is_dir()):
        fault = "is a pipe or a device" if source.exists() else "does not exist"
        raise FileNotFoundError(f"{source} {fault}; expected a DSB2018 folder or zip")
    with contextlib.ExitStack() as stack:
        scratch = temporary_name(out_dir / "member")
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        if source.is_dir():
            paths = {
                f"{source.name}/{path.relative_to(source).as_posix()}": path
                for path in source.rglob("*.*")
            }
            yield Source(paths, paths.__getitem__, scratch)
            return
        try:
            archive = stack.enter_context(zipfile.ZipFile(source))
        except DAMAGED_ARCHIVE as error:
            raise ValueError(
                f"{source} is no whole zip ({first_line(error)}); expected a DSB2018 folder or zip"
            ) from error
        refuse_unsafe_archive(source, archive)
        members = {f"{source.stem}/{member.filename}": member for member in archive.infolist()}

        def fetch(name: str) -> Path:
            # One member at a time, under the last part of its name only.
            scratch.mkdir(parents=True, exist_ok=True)
            for earlier in scratch.iterdir():
                earlier.unlink()
            path = scratch / Path(name).name
            with (
                archive.open(members[name]) as packed,
                explaining_full_disk(path),
                open(path, "wb") as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked)
            return path

        yield Source(members, fetch, scratch)


def dsb2018_members(names: Iterable[str]) -> dict[str, Members]:
    """Sort the names `.../ID/images/*.png` and `.../ID/masks/*.png`: {".../ID": Members}."""
    members: dict[str, Members] = {}
    for name in sorted(names):
        *above, kind, file = name.split("/")
        kind, is_image = kind.lower(), Path(file).suffix.lower() in IMAGE_SUFFIXES
        if above and kind in ("images", "masks") and is_image and not is_companion(name):
            files = members.setdefault("/".join(above), Members([], []))
            (files.images if kind == "images" else files.masks).append(name)
    return members
