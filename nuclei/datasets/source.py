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
from pathlib import Path, PurePosixPath
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


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files in a folder and below, sorted, also behind links, but for those to a folder above.

    Args:
        folder: where to look; what is no folder has no files.
        above: the folders above it, without links.
    """
    real = folder.resolve()
    if not folder.is_dir() or real in above:
        return
    with os.scandir(folder) as entries:
        places = sorted((entry.name, entry.is_dir()) for entry in entries)
    for name, is_folder in places:
        if is_folder:
            yield from files_below(folder / name, (*above, real))
        else:
            yield folder / name


def names_below(folder: Path) -> dict[str, Path]:
    """{name: path} of all files of a folder, each name with that of the folder at its beginning."""
    folder = folder.resolve()
    paths = files_below(folder)
    return {f"{folder.name}/{path.relative_to(folder).as_posix()}": path for path in paths}


def names_in(archive: zipfile.ZipFile, source: Path) -> dict[str, zipfile.ZipInfo]:
    """{name: member} of all files of a zip, each name with that of the zip at its beginning.

    Raises:
        ValueError: two members have one name.
    """
    result: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if not member.is_dir():
            inside = member.filename.replace("\\", "/")  # as some programs on Windows write it
            name = PurePosixPath(source.stem, inside).as_posix()
            if name in result:
                raise ValueError(
                    f"{source} has two members of the name {inside}; expected one: unpack it, and "
                    "import the folder"
                )
            result[name] = member
    return result


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
            paths = names_below(source)
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
        members = names_in(archive, source)

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
