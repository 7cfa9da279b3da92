"""A folder or zip that images are brought in from, file by file.

    with open_source(Path("stage1_train.zip"), Path("data")) as opened:
        path = opened.fetch(opened.names[0])

A zip is checked before anything is unpacked.
"""

import contextlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from nuclei.archives import DAMAGED_ARCHIVE, refuse_unsafe_archive
from nuclei.files import first_line
from nuclei.full_disk import explaining_full_disk
from nuclei.leftovers import temporary_name

Fetch = Callable[[str], Path]  # from a name to a path that can be read until the next call


class Members(NamedTuple):
    """The names of the files of one image, which is to have one image and a truth.

    Attributes:
        images: one is expected.
        truths: one mask for each nucleus, or one file for all of them.
    """

    images: list[str]
    truths: list[str]


class Source(NamedTuple):
    """An open folder or zip.

    Attributes:
        names: of all files, with "/" between folders.
        fetch: from a name to a path that can be read until the next call.
        scratch: folder that members of a zip are unpacked to.
    """

    names: Iterable[str]
    fetch: Fetch
    scratch: Path


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and below, also behind links, each folder once."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield from (Path(place, file) for file in files)


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
        raise FileNotFoundError(
            f"{source} {fault}; expected a folder or zip of images with their truth"
        )
    with contextlib.ExitStack() as stack:
        scratch = temporary_name(out_dir / "member")
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        if source.is_dir():
            paths = {
                f"{source.name}/{path.relative_to(source).as_posix()}": path
                for path in files_below(source)
            }
            yield Source(paths, paths.__getitem__, scratch)
            return
        try:
            archive = stack.enter_context(zipfile.ZipFile(source))
        except DAMAGED_ARCHIVE as error:
            raise ValueError(
                f"{source} is no whole zip ({first_line(error)}); expected a zip of images with "
                "their truth"
            ) from error
        refuse_unsafe_archive(source, archive)
        members = {  # some programs on Windows write backslashes
            f"{source.stem}/{member.filename}".replace("\\", "/"): member
            for member in archive.infolist()
            if not member.is_dir()
        }

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
