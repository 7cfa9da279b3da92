"""Find the nuclei of many images and write their results: several images at once.

Threads read images, run the network and write the files of each image. The tables that all images
share are written by one thread, in the order of the jobs.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from nuclei.cli import Notes, is_out_of_memory, shortened
from nuclei.files import NAME_REFUSED, is_fault_of_name, unreadable
from nuclei.images.reading import ImageFile, declared_pixels, open_image
from nuclei.inference.find import NUCLEUS_UM, Options, find_nuclei
from nuclei.inference.threads import PixelBudget, map_in_order
from nuclei.model_file import Model
from nuclei.progress import Progress
from nuclei.results.image import measure_nuclei, summarise, write_image, write_rows
from nuclei.results.jobs import Job, Run
from nuclei.results.tally import Tally

# How many times --mpp may differ from what a file states before the user is told.
MAX_MPP_RATIO = 1.5
PIXELS_AT_ONCE = 16_000_000  # px of all images in work, about 80 bytes each; a larger one is alone


def predict_images(
    jobs: Sequence[Job], run: Run, cluster=None, find: Callable | None = None
) -> Tally:
    """Find the nuclei of images and write them, the rows of the tables in the order of the jobs.

    Args:
        jobs: the images.
        run: what they share.
        cluster: a `Cluster` whose workers do it, each with a model of its own; None uses threads
            of this process.
        find: as of `process_image`, where no cluster is used.

    Returns:
        A `Tally` of these images.
    """
    if cluster is None:
        budget = PixelBudget(PIXELS_AT_ONCE)
        find = find or find_and_measure
        results = map_in_order(lambda job: process_image(job, run, budget, find), jobs)
    else:
        results = cluster.predict_images(jobs, run)
    tally = Tally()
    progress = Progress("Predicting", len(jobs), "images", log=True)
    with contextlib.closing(results), progress, Notes(progress.tell) as notes:
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                tally.failures.append(describe_failure(job, result))
                progress.say(f"skipped: {tally.failures[-1]}")
            else:
                table, summary, lines = result
                notes.add(job.stem, *lines)
                write_rows(run.out, job, [table], summary)
                tally.add(summary)
            progress.add(1, note=f"{tally.num_nuclei:,} nuclei")
    return tally


def find_and_measure(image, model: Model, options: Options):
    """Find and measure the nuclei of an image: (found, table, lines for the user)."""
    found = find_nuclei(image, model, options)
    return found, measure_nuclei(found, model, options.mpp), []


def process_image(job: Job, run: Run, budget: PixelBudget, find: Callable = find_and_measure):
    """Take one image from its file to its result files.

    Args:
        job: the image.
        run: with a model.
        budget: limits the pixels that all threads work on.
        find: `find_and_measure` or a function like it.

    Returns:
        (table, summary, lines): two for `write_rows`, and lines for the user; or the exception
        where the image could not be read.
    """
    with budget.taken(declared_pixels(job.path)):
        started = time.monotonic()
        try:
            file = open_image(job.path, run.options.channel, run.options.plane)
        except OSError as error:  # it has vanished, or may not be read
            return unreadable(job.path, error)
        except (ValueError, MemoryError) as error:
            return error
        try:
            options, lines = options_for(file, run.options)
            found, table, more_lines = find(file.image, run.model, options)
            seconds = time.monotonic() - started
            run = replace(run, options=options)  # with the pixel size and the channel of this file
            table.insert(0, "image", job.stem)
            write_image(found, table, job, run)
        except Exception as error:
            return reason_to_skip(error, job.path)
        return table, summarise(found, table, job, run, seconds), [*lines, *more_lines]


def reason_to_skip(error: Exception, path: Path) -> Exception:
    """What an image or slide is skipped for, after this error.

    Args:
        error: raised while it was searched or its results were written.
        path: of the image or slide.

    Returns:
        A ValueError (also where the user has put a file in the place of a result) or MemoryError.

    Raises:
        Exception: `error` itself, where the next image would not fare better.
    """
    if isinstance(error, ValueError | MemoryError):
        return error
    if is_out_of_memory(error):  # each engine says it in an exception of its own
        return MemoryError(f"there is too little memory for it ({shortened(error)})")
    if isinstance(error, OSError) and is_fault_of_name(error):
        return ValueError(f"{path}: {NAME_REFUSED}")
    raise error


def options_for(file: ImageFile, options: Options) -> tuple[Options, list[str]]:
    """The options of one image, with what its file says, and lines for the user on it.

    The pixel size that the user gave comes before that of the file.
    """
    lines = list(file.notes)
    if file.mpp is not None and options.mpp is None:
        effect = "" if options.diameter_px or options.scale else f", nuclei of {NUCLEUS_UM:g} µm"
        lines.append(f"{file.mpp:.4g} µm per pixel, as the file says{effect} (--mpp wins)")
    if line := describe_other_mpp(options.mpp, file.mpp):
        lines.append(line)
    mpp = options.mpp or file.mpp
    return replace(options, mpp=mpp, channel=file.channel, plane=file.plane), lines


def describe_other_mpp(mpp: float | None, mpp_of_file: float | None) -> str:
    """A line where --mpp is far from what the file states, else ""; either may be None."""
    if not (mpp and mpp_of_file and max(mpp / mpp_of_file, mpp_of_file / mpp) > MAX_MPP_RATIO):
        return ""
    return f"--mpp {mpp:g} is taken, although the file says {mpp_of_file:.4g} µm per pixel"


def describe_failure(job: Job, error: Exception) -> str:
    """One line on an image or slide that could not be read; it names the file."""
    if isinstance(error, MemoryError) and not str(error):
        return f"{job.path}: there is too little memory for it; close other programs, or cut it"
    return str(error) if str(job.path) in str(error) else f"{job.path}: {error}"
