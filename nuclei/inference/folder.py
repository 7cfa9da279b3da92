"""Find the nuclei of many images and write their results: several images at once.

Threads read images, run the network and write the files of each image. The tables that all images
share are written by one thread, in the order of the jobs.
"""

import contextlib
import time
from collections.abc import Sequence

from nuclei.cli import Progress
from nuclei.images.reading import declared_pixels, read_image
from nuclei.inference.find import find_nuclei
from nuclei.inference.threads import PixelBudget, map_in_order
from nuclei.results.image import measure_nuclei, summarise, write_image, write_rows
from nuclei.results.jobs import Job, Run
from nuclei.results.tally import Tally

PIXELS_AT_ONCE = 16_000_000  # px of all images in work, about 80 bytes each


def predict_images(jobs: Sequence[Job], run: Run, cluster=None) -> Tally:
    """Find the nuclei of images and write them, the rows of the tables in the order of the jobs.

    Args:
        jobs: the images.
        run: what they share.
        cluster: a `Cluster` whose workers do it, each with a model of its own; None uses threads
            of this process.

    Returns:
        A `Tally` of these images.
    """
    if cluster is None:
        budget = PixelBudget(PIXELS_AT_ONCE)
        results = map_in_order(lambda job: process_image(job, run, budget), jobs)
    else:
        results = cluster.predict_images(jobs, run)
    tally = Tally()
    progress = Progress("Predicting", len(jobs), "images", log=True)
    with contextlib.closing(results), progress:
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Exception):
                tally.failures.append(describe_failure(job, result))
                progress.say(f"skipped: {tally.failures[-1]}")
            else:
                table, summary = result
                write_rows(run.out, job, [table], summary)
                tally.add(summary)
            progress.add(1, note=f"{tally.num_nuclei:,} nuclei")
    return tally


def process_image(job: Job, run: Run, budget: PixelBudget):
    """Take one image from its file to its result files.

    Args:
        job: the image.
        run: with a model.
        budget: limits the pixels that all threads work on.

    Returns:
        (table, summary) for `write_rows`, or the exception where the image could not be read.
    """
    with budget.taken(declared_pixels(job.path)):
        started = time.monotonic()
        try:
            found = find_nuclei(read_image(job.path), run.model, run.options)
        except (ValueError, MemoryError) as error:
            return error
        seconds = time.monotonic() - started
        table = measure_nuclei(found, run.model, run.options.mpp)
        table.insert(0, "image", job.stem)
        write_image(found, table, job, run)
        return table, summarise(found, table, job, run, seconds)


def describe_failure(job: Job, error: Exception) -> str:
    """One line on an image or slide that could not be read; it names the file."""
    return str(error) if str(job.path) in str(error) else f"{job.path}: {error}"
