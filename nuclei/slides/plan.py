"""What one call of predict.py does: its images and slides, their formats, and what is left to do.

files = collect(["test_raw", "slide.svs"])          # {stem: path}
formats = choose_formats(files, {"slide"}, None)    # {stem: names}
Plan(...).jobs_left(record)                         # what earlier runs have not done
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from nuclei.contents import known_state
from nuclei.files import named, plural
from nuclei.formats.registry import FORMATS, require_formats
from nuclei.images.folder import find_images, image_files
from nuclei.images.reading import IMAGE_SUFFIXES
from nuclei.images.stems import normal
from nuclei.inference.find import Options
from nuclei.machine import require
from nuclei.results.image import DEFAULT_FORMATS
from nuclei.results.jobs import describe_plan, plan_jobs
from nuclei.results.tables import (
    finished_before,
    formats_of,
    merge_changed_rows,
    read_table,
)
from nuclei.slides.formats import SUFFIXES, find_slides, is_slide
from nuclei.slides.found import SLIDE_FORMATS, SLIDE_FORMATS_DEFAULT
from nuclei.slides.targets import (
    find_changed,
    refuse_among_inputs,
    refuse_other_images,
    without_protected,
)
from nuclei.slides.work import work_folder
from nuclei.stored_model import StoredModel


class Plan(NamedTuple):
    """What one call does, known before any work.

    Attributes:
        out: the folder of the results.
        model: the model file, read once.
        options: what the user asked, an `Options`.
        made_by: names the model and what else decides the results, see `name_maker`.
        files: {stem: path} of images and slides.
        slides: the stems of slides.
        formats: {stem: names of the formats}.
    """

    out: Path
    model: StoredModel
    options: Options
    made_by: str
    files: dict[str, Path]
    slides: set[str]
    formats: dict[str, list[str]]

    def jobs_left(self, record):
        """What is left to do. Says what earlier runs have finished.

        Args:
            record: of `out`; where the user said --overwrite, finished files are done again.

        Returns:
            (jobs, files): a list of `Job`, and the files that are `Staying`.

        Raises:
            Protected: files of the user stand in the place of all results, or of a table.
        """
        overwrite = record.overwrite
        refuse_among_inputs(self.files, self.formats, self.out)
        merge_changed_rows(self.out)
        summary = read_table(self.out / "summary.csv")
        anew, kept = set(self.files), {}
        if not overwrite:
            refuse_other_images(self.files, summary, self.out, record)
            anew, kept = find_changed(self.files, summary, self.slides, record)
        renewed = [row for row in formats_of(summary) if row[0] in anew]
        require_packages(self.possible_formats(renewed), self.slides)  # before any row goes
        finished = finished_before(self.out, self.made_by, overwrite, self.files, anew)
        finished = self.possible_formats(finished.items())
        files = {stem: path for stem, path in self.files.items() if stem not in kept}
        jobs = plan_jobs(files, self.formats, finished, anew)
        jobs = [replace(job, state=known_state(job.path)) for job in jobs]
        if anew and not overwrite:
            images = f"{plural(len(anew), 'image')} ({named(sorted(anew))})"
            print(f"Changed since they were predicted, and done anew: {images}")
        for line in describe_plan(jobs, len(files), anew):
            print(line)
        for stem in self.files.keys() - {job.stem for job in jobs}:
            # The last step of a slide, which an earlier run may have missed.
            work_folder(self.out, stem).clear()
        jobs, staying = without_protected(jobs, self.out, self.slides, record)
        return jobs, staying._replace(outdated=[path for paths in kept.values() for path in paths])

    def possible_formats(self, written):
        """What an earlier run wrote and this one can write: a file may have become a slide.

        Args:
            written: pairs of a stem and names of formats.

        Returns:
            {stem: names}.
        """
        of_images = {*DEFAULT_FORMATS, *FORMATS}
        return {
            stem: [n for n in names if n in (SLIDE_FORMATS if stem in self.slides else of_images)]
            for stem, names in written
        }


def collect(inputs):
    """Find the images and slides in files and folders: {stem: path}, in the order given.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: a file is no image by its name, a folder is empty, or two files share a stem,
            capitals apart.
    """
    suffixes = (*IMAGE_SUFFIXES, *SUFFIXES)
    files, stems = {}, {}
    for entry in map(Path, inputs):
        if not entry.exists():
            raise FileNotFoundError(
                f"{entry} does not exist; expected an image, a slide, or a folder of them"
            )
        if not (entry.is_file() or entry.is_dir()):
            raise ValueError(
                f"{entry} is a pipe or a device; expected an image, a slide, or a folder of them: "
                "write its content to a file first"
            )
        if entry.is_file() or is_slide(entry):
            if entry.suffix.lower() not in suffixes:
                raise ValueError(
                    f"{entry} is no image by its name; expected one of {', '.join(suffixes)}"
                )
            pairs = [(normal(entry.stem), entry)]
        else:
            pairs = find_slides(entry)
            pairs += find_images(entry).items() if image_files(entry) or not pairs else ()
        for stem, path in pairs:
            known = stems.setdefault(stem.casefold(), stem)  # many disks do not tell a from A
            earlier = files.setdefault(known, path)
            if earlier.resolve() != path.resolve() and not earlier.samefile(path):
                raise ValueError(
                    f"{earlier} and {path} would both become {stem}.png; predict into two "
                    "--out folders"
                )
    return files


def describe_left_out(inputs) -> list[str]:
    """Lines on what lies in the folders of the user and is not read: other files, and folders."""
    lines = []
    for folder in (Path(entry) for entry in inputs if Path(entry).is_dir() and not is_slide(entry)):
        entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        suffixes = (*IMAGE_SUFFIXES, *SUFFIXES)
        files = [path.name for path in entries if path.is_file()]
        named_so = [path for path in entries if path.name.lower().endswith(suffixes)]
        odd = [path.name for path in named_so if not path.is_file() and not is_slide(path)]
        if odd:
            lines.append(
                f"{folder}: {len(odd)} entries are named like images and are no files (links to "
                f"what is not there, folders, pipes), and are left out: {named(odd)}"
            )
        if others := [name for name in files if not name.lower().endswith(suffixes)]:
            lines.append(
                f"{folder}: {len(others)} files of other kinds are left out: {named(others)}"
            )
        folders = [path.name for path in entries if path.is_dir() and not is_slide(path)]
        if nested := [name for name in folders if image_files(folder / name)]:
            lines.append(
                f"{folder}: the images in its folders are left out: {named(nested)} "
                "(name them, too)"
            )
    return lines


def choose_formats(files, slides, chosen, editable=False):
    """The formats of each file.

    Args:
        files: {stem: path}.
        slides: the stems of slides.
        chosen: names that the user chose, or None for the default.
        editable: whether outlines are to be edited: by default there is GeoJSON, then, too.

    Returns:
        {stem: names}.

    Raises:
        ValueError: a package is missing.
    """
    formats = {stem: formats_for(path, stem in slides, chosen) for stem, path in files.items()}
    if editable and not chosen:
        for stem in files.keys() - slides:
            formats[stem].append("geojson")
    require_packages(formats, slides)
    return formats


def require_packages(formats, slides):
    """Raise ValueError where a package is missing for the formats, {stem: names}."""
    require_formats(dict.fromkeys(name for names in formats.values() for name in names))
    if any("ometiff" in names for stem, names in formats.items() if stem in slides):
        require(["zarr"], "the format ometiff of slides")


def formats_for(path, path_is_slide, chosen):
    """The formats in which an image or slide is written.

    Args:
        path: of the image or slide, for messages.
        path_is_slide: whether it is a slide.
        chosen: names that the user chose, or None for the default.

    Returns:
        A list of names.

    Raises:
        ValueError: slides have none of the chosen formats.
    """
    if not path_is_slide:
        return list(chosen or DEFAULT_FORMATS)
    formats = [name for name in chosen or SLIDE_FORMATS_DEFAULT if name in SLIDE_FORMATS]
    if not formats:
        raise ValueError(
            f"{path} is a slide, which is written as {', '.join(SLIDE_FORMATS)}; "
            f"got {', '.join(chosen)}"
        )
    if left_out := [name for name in chosen or () if name not in formats]:
        print(
            f"{path} is a slide: it is not written as {', '.join(left_out)} "
            "(the labels of slides are ometiff or omezarr)"
        )
    return formats
