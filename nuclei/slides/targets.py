"""The files that a call of predict.py is to write, looked at before any work.

    jobs, staying = without_protected(jobs, out, slides, record)

A file of the user is never lost. Where one stands in the place of a result, that image is left out;
where the user has changed a result, it stays; the rest is done. `nuclei.written` has the rule.
"""

import filecmp
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from nuclei.contents import Content, is_changed
from nuclei.files import named
from nuclei.formats.registry import FORMATS
from nuclei.images.stems import text_of
from nuclei.results.image import DEFAULT_FORMATS, result_files
from nuclei.results.jobs import Job
from nuclei.results.tables import formats_of
from nuclei.slides.fields import field_files
from nuclei.slides.tissue import tissue_file
from nuclei.written import Protected, Record

TABLES = ("nuclei.csv", "summary.csv")


class Staying(NamedTuple):
    """Files in the place of results.

    Attributes:
        changed: results that the user has changed; their formats are not written.
        foreign: files that this program did not write; their images are left out.
        outdated: results that the user has changed, of images that are other ones now.
    """

    changed: list[Path]
    foreign: list[Path]
    outdated: list[Path]

    def lines(self) -> list[str]:
        """Lines for the user."""
        kinds = {
            "left as you changed them (--overwrite replaces them)": self.changed,
            "images left out, because this program did not write these files, which stand in the "
            "place of results (give --out another place, or --overwrite)": self.foreign,
            "images left out, because they are other images than those whose results you changed "
            "(give --out another place, or --overwrite)": self.outdated,
        }
        return [f"{kind}: {named(paths)}" for kind, paths in kinds.items() if paths]


def targets(out: Path, stem: str, name: str, is_slide: bool = False) -> list[Path]:
    """The files in which one format of an image or slide may be written.

    Args:
        out: the folder of the results.
        stem: of the image.
        name: of the format.
        is_slide: a slide has fields beside its overlay.
    """
    fields = field_files(out, stem) if is_slide and name == "overlays" else []
    tissue = [tissue_file(out, stem)] if is_slide else []
    return [*result_files(out, stem, name), *fields, *tissue]


def without_protected(
    jobs: Sequence[Job], out: Path, slides: Iterable[str], record: Record
) -> tuple[list[Job], Staying]:
    """Take out of the jobs what would replace files of the user.

    Args:
        jobs: what is to be done.
        out: the folder of the results.
        slides: the stems of slides.
        record: of `out`.

    Returns:
        (jobs, files that stay as they are). A job of which nothing remains is left out.

    Raises:
        Protected: nothing can be done, since files that this program did not write stand in the
            place of all results, or of a table.
    """
    jobs_left, staying, faults = [], Staying([], [], []), []
    for job in jobs:
        formats, foreign = [], []
        for name in job.formats:
            paths = targets(out, job.stem, name, job.stem in slides)
            wrong = [path for path in paths if record.fault(path)]
            foreign += [path for path in wrong if not record.is_known(path)]
            staying.changed.extend(path for path in wrong if record.is_known(path))
            formats += [] if wrong else [name]
        staying.foreign.extend(dict.fromkeys(foreign))
        if formats and not foreign:
            jobs_left.append(replace(job, formats=tuple(formats)))
    if jobs_left:
        folders = [out, out / "fields"] if slides else [out]
        faults += filter(None, (record.fault(path / name) for path in folders for name in TABLES))
    elif not staying.changed:
        faults += map(record.fault, staying.foreign)
    if faults := list(dict.fromkeys(faults)):
        raise Protected(faults[0] if len(faults) == 1 else f"{len(faults)} files: {named(faults)}")
    return jobs_left, staying._replace(changed=list(dict.fromkeys(staying.changed)))


def find_changed(
    files: Mapping[str, Path], summary, slides: Container[str], record: Record
) -> tuple[set[str], dict[str, list[Path]]]:
    """The finished images that are other pictures now, under the same names.

    Args:
        files: {stem: path}.
        summary: a DataFrame, the rows of summary.csv.
        slides: the stems of slides.
        record: of the results; older versions noted nothing of images.

    Returns:
        (stems, {stem: paths}): those whose results are ours and may be replaced, and the results
        of the others that the user has changed.
    """
    stems, kept = set(), {}
    for stem, formats in formats_of(summary):
        if stem not in files or stem not in record.images:
            continue
        if not is_changed(files[stem], record.images[stem]):
            continue
        paths = [
            path
            for name in formats
            if name in {*DEFAULT_FORMATS, *FORMATS}
            for path in targets(record.folder, stem, name, stem in slides)
            if record.fault(path)
        ]
        if paths:
            kept[stem] = list(dict.fromkeys(paths))
        else:
            stems.add(stem)
    return stems, kept


def refuse_other_images(files: Mapping[str, Path], summary, out: Path, record: Record) -> None:
    """Raise ValueError where finished results are those of another image of the same stem.

    An image that has moved with its results is the same.

    Args:
        files: {stem: path}.
        summary: a DataFrame, the rows of summary.csv.
        out: the folder of the results.
        record: of `out`.
    """
    if not {"file", "folder"} <= set(summary):
        return
    rows = summary[summary["image"].isin(list(files))]
    places = zip(rows["image"], rows["file"], rows["folder"], strict=True)
    others = [
        stem
        for stem, *place in places
        if is_another(files[stem], out, *place, record.images.get(stem))
    ]
    if others:
        raise ValueError(
            f"{out} holds results of other images named {named(others)}; give --out another "
            "folder, or --overwrite to replace them"
        )


def is_another(path: Path, out: Path, file: str, folder: str, content: Content | None) -> bool:
    """Whether an image is not the one that summary.csv names.

    Args:
        path: of the image.
        out: the folder of the results.
        file, folder: cells of summary.csv.
        content: what was noted of the image; None for results of older versions.
    """
    if text_of(path.name) != file:
        return True
    earlier = os.path.normpath(out.absolute() / folder / path.name)
    if not os.path.isfile(earlier):
        return content is not None and is_changed(path, content)
    if not path.is_file() or os.path.samefile(path, earlier):
        return False
    return not filecmp.cmp(path, earlier, shallow=False)


def refuse_among_inputs(files: Mapping[str, Path], formats: Mapping, out: Path) -> None:
    """Raise `Protected` where results would be written into a folder of the inputs.

    Args:
        files: {stem: path}.
        formats: {stem: names of the formats}.
        out: the folder of the results.
    """
    inputs = {path.parent.resolve() for path in files.values()}
    names = dict.fromkeys(name for stem in files for name in formats[stem])
    for name in names:
        for folder in {path.parent for path in targets(out, "any", name, is_slide=True)}:
            if folder.resolve() in inputs:
                raise Protected(
                    f"{folder} holds images to predict, and {name} would be written among them; "
                    "give --out another folder"
                )
