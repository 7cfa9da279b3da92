"""Which images and slides are to be done, and in which formats: the records `Job` and `Run`."""

import hashlib
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nuclei.files import plural
from nuclei.images.stems import text_of
from nuclei.model_file import Model, stored_model


@dataclass(frozen=True)
class Job:
    """One image or slide whose nuclei are to be found.

    Attributes:
        stem: names its results, such as masks/STEM.png.
        path: the file (or the folder of an OME-Zarr).
        formats: names of the formats to write now.
        formats_before: names of the formats that an earlier run wrote.
        state: size and time of the file before it was read.
    """

    stem: str
    path: Path
    formats: tuple[str, ...]
    formats_before: tuple[str, ...] = ()
    state: tuple[int, int] | None = None

    @property
    def all_formats(self) -> str:
        """The formats of both runs, as summary.csv lists them."""
        return " ".join(dict.fromkeys([*self.formats_before, *self.formats]))


@dataclass(frozen=True)
class Run:
    """What all jobs of one call of predict.py share.

    Attributes:
        out: the folder of the results.
        model: the network with its settings; None on the way to a worker of a cluster, which loads
            its own.
        options: what the user asked, an `Options` of nuclei.inference.find.
        made_by: names the model file and a hash of what decides the results, see `name_maker`.
        editable: write outlines for QuPath as annotations, which its brush can edit.
        model_file: the model file as seen from `out`, see `seen_from`.
        overlay_colour: one of COLOUR_RULES of nuclei.results.pictures.
    """

    out: Path
    model: Model | None
    options: object
    made_by: str
    editable: bool = False
    model_file: str = ""
    overlay_colour: str = "one"


def seen_from(out: Path, path: Path) -> str:
    """The way from the folder of the results to a file: it stays right if both move together.

    Returns:
        A relative path with "/"; an absolute one where there is no way, on another Windows drive.
    """
    try:
        return Path(os.path.relpath(path, out)).as_posix()
    except ValueError:
        return Path(path).absolute().as_posix()


def places(job: Job, run: Run) -> dict[str, str]:
    """The cells of summary.csv that say where an image and its model lie."""
    names = {"file": job.path.name, "folder": seen_from(run.out, job.path.parent)}
    names["model"] = run.model_file
    return {"image": job.stem, **{column: text_of(name) for column, name in names.items()}}


def name_maker(model, *decisive) -> str:
    """The column made_by: the model's name, and a hash of all that decides the results.

    Args:
        model: a `StoredModel`, or the path of a model file.
        decisive: anything whose `repr` tells runs with other results apart.
    """
    model = stored_model(model)
    digest = hashlib.sha256(model.content + repr(decisive).encode())
    return f"{model.path.name} {digest.hexdigest()[:12]}"


def plan_jobs(
    files: Mapping[str, Path],
    formats: Mapping[str, Sequence[str]],
    finished: Mapping[str, Sequence[str]],
    anew: Container[str],
) -> list[Job]:
    """What is left to do. An image that is done again renews all that it had.

    Args:
        files: {stem: path}.
        formats: {stem: names of the formats that the user wants}.
        finished: {stem: names of the formats that an earlier run wrote}.
        anew: stems that are done again, finished or not.
    """
    jobs = []
    for stem, path in files.items():
        before = tuple(finished.get(stem, ()))
        if stem in anew:
            missing = tuple(dict.fromkeys([*before, *formats[stem]]))
        else:
            missing = tuple(name for name in formats[stem] if name not in before)
        if missing:
            jobs.append(Job(stem, path, missing, before))
    return jobs


def describe_plan(jobs: Sequence[Job], num_files: int, anew: Container[str]) -> list[str]:
    """Lines for the user on what an earlier run has finished."""
    lines = []
    if num_finished := num_files - len(jobs):
        lines.append(
            f"Finished already: {plural(num_finished, 'image')} (--overwrite does them again)"
        )
    incomplete = [job for job in jobs if job.formats_before and job.stem not in anew]
    if incomplete:
        missing = sorted({name for job in incomplete for name in job.formats})
        images = plural(len(incomplete), "image")
        lines.append(f"Finished but for {', '.join(missing)}: {images}")
    return lines
