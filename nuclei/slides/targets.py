"""The files that a call of predict.py is to write, looked at before any work.

    jobs, left = without_protected(jobs, out, slides, record)

A file of the user is never lost: where one stands in the place of a result, the call stops; where
the user has changed a result, it stays, and the rest is done. `nuclei.written` has the rule.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nuclei.files import named
from nuclei.results.image import result_files
from nuclei.results.jobs import Job
from nuclei.slides.fields import field_files
from nuclei.written import Protected, Record

TABLES = ("nuclei.csv", "summary.csv")


def targets(out: Path, stem: str, name: str, is_slide: bool = False) -> list[Path]:
    """The files in which one format of an image or slide may be written.

    Args:
        out: the folder of the results.
        stem: of the image.
        name: of the format.
        is_slide: a slide has fields beside its overlay.
    """
    fields = field_files(out, stem) if is_slide and name == "overlays" else []
    return [*result_files(out, stem, name), *fields]


def without_protected(
    jobs: Sequence[Job], out: Path, slides: Iterable[str], record: Record
) -> tuple[list[Job], list[Path]]:
    """Take out of the jobs what would replace results that the user has changed.

    Args:
        jobs: what is to be done.
        out: the folder of the results.
        slides: the stems of slides.
        record: of `out`.

    Returns:
        (jobs, files that stay as they are). A job of which nothing remains is left out.

    Raises:
        Protected: a result would be written in the place of a file that this program did not
            write, or into a table that is not its own.
    """
    jobs_left, changed, faults = [], [], []
    for job in jobs:
        formats = []
        for name in job.formats:
            paths = targets(out, job.stem, name, job.stem in slides)
            wrong = [path for path in paths if record.fault(path)]
            faults += [record.fault(path) for path in wrong if not record.is_known(path)]
            changed += [path for path in wrong if record.is_known(path)]
            formats += [] if wrong else [name]
        if formats:
            jobs_left.append(replace(job, formats=tuple(formats)))
    if jobs_left:
        folders = [out, out / "fields"] if slides else [out]
        faults += filter(None, (record.fault(path / name) for path in folders for name in TABLES))
    if faults:
        raise Protected(faults[0] if len(faults) == 1 else f"{len(faults)} files: {named(faults)}")
    return jobs_left, changed


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
