"""Find the nuclei of many slides and write their results: the slides of one call of predict.py.

Without a cluster one slide follows the other. On a cluster several slides are in work at once, so
that the workers are busy while one of them is put together here.
"""

import contextlib
import sys
import time
from pathlib import Path

from nuclei.files import unreadable
from nuclei.formats.registry import FORMATS
from nuclei.inference.folder import describe_failure, describe_other_mpp, reason_to_skip
from nuclei.inference.threads import map_in_order
from nuclei.inference.workers import model_of_worker
from nuclei.instances.signs import image_signs
from nuclei.results.image import flag, write_rows
from nuclei.results.jobs import places
from nuclei.results.tables import SUMMARY
from nuclei.results.tally import Tally
from nuclei.slides.fields import sample_fields, write_fields
from nuclei.slides.formats import open_slide
from nuclei.slides.search import find_nuclei_on_slide, search_tiles
from nuclei.slides.tile_nuclei import describe_cut
from nuclei.slides.work import WorkFolder
from nuclei.version import program_version
from nuclei.written import Protected

# Tiles that a worker does in one go, reading ahead. They are lost with it if it dies.
TILES_TOGETHER = 4
SLIDES_AT_ONCE = 4  # on a cluster


def predict_slides(jobs, run, cluster=None):
    """Find the nuclei of slides and write them.

    Args:
        jobs: a list of `Job`.
        run: the `Run` that they share, with a model.
        cluster: a `Cluster` whose workers search the tiles, each with a model of its own; None
            searches them here.

    Returns:
        A `Tally` of these slides.
    """

    def process(job):
        try:
            return process_slide(job, run, cluster)
        except Exception as error:
            return reason_to_skip(error, job.path)

    if cluster is None:
        results = (process(job) for job in jobs)
    else:
        results = map_in_order(process, jobs, SLIDES_AT_ONCE, cluster.stopped.set)
    tally = Tally()
    with contextlib.closing(results):
        for job, result in zip(jobs, results, strict=True):
            if not isinstance(result, Exception):
                result = write_shared(result, job, run)
            if isinstance(result, Exception):
                tally.failures.append(describe_failure(job, result))
                print(f"skipped: {tally.failures[-1]}", file=sys.stderr)
                continue
            tally.add(result)
    return tally


def write_shared(result, job, run):
    """Write what a slide has in tables and folders of all slides, and end its work.

    Args:
        result: of `process_slide`.
        job, run: as of `process_slide`.

    Returns:
        The row of summary.csv; or the exception where the user has put a file in the place of a
        field.
    """
    found, fields, summary = result
    try:
        if "overlays" in job.formats:
            write_fields(run.out, fields, summary)
    except Protected as error:
        return error
    write_rows(run.out, job, (table for table, _ in found.parts()), summary)
    found.work.clear()
    return summary


def process_slide(job, run, cluster=None):
    """Find the nuclei of one slide, and write the files that belong to it alone.

    Args:
        job: the slide.
        run, cluster: as of `predict_slides`.

    Returns:
        (found, fields, summary): `FoundOnSlide`, a list of `Field`, and the row of summary.csv.
        The last two are for tables that all slides share.

    Raises:
        ValueError: the slide cannot be read, or the tile is too small.
    """
    started = time.monotonic()
    try:
        slide = open_slide(job.path, run.options.channel, run.options.plane)
    except OSError as error:  # it has vanished, or may not be read
        raise unreadable(job.path, error) from None
    for note in slide.notes:
        print(f"{job.stem}: {note}")
    if line := describe_other_mpp(run.options.mpp, slide.mpp):
        print(f"{job.stem}: {line}")
    search = None if cluster is None else search_on(cluster, job, run)
    found = find_nuclei_on_slide(slide, job, run, search)
    found.write(run.out, job.formats, run.editable, run.overlay_colour)
    say_how_to_open(job, run.out)
    fields = sample_fields(slide, found) if "overlays" in job.formats else []
    if found.num_cut:
        print(f"{job.stem}: {describe_cut(found.num_cut)}")
    signs = image_signs(found.uncertainty)
    summary = {
        **found.summary(),
        **places(job, run),
        "channel": slide.channel or "",
        "plane": slide.plane or "",
        "out_of_distribution": flag(run.model.exceeds_limits(signs, found.setup.kind)),
        "seconds": round(time.monotonic() - started, 3),
        "made_by": run.made_by,
        "version": program_version(),
        "formats": job.all_formats,
    }
    return found, fields, {name: summary[name] for name in SUMMARY}


def say_how_to_open(job, out):
    """Tell the user which file to drag where, to see the outlines on the slide."""
    if names := [name for name in job.formats if name.startswith("geojson")]:
        outlines = FORMATS[names[0]].path(out, job.stem)
        print(f"{job.stem}: in QuPath, open {job.path.name} and drag {outlines} onto it")


# --- Tiles on a cluster ---------------------------------------------------------------------------


def search_on(cluster, job, run):
    """The `search` of `find_nuclei_on_slide` for a slide, done by the workers of a cluster."""
    path, options = Path(job.path).absolute(), run.options

    def search(work, tiles):
        folder = work.path.absolute()
        groups = [
            tiles[first : first + TILES_TOGETHER] for first in range(0, len(tiles), TILES_TOGETHER)
        ]
        calls = ((cluster.source, path, options, folder, group) for group in groups)
        results = cluster.map_in_order(search_tiles_in_worker, calls)
        with contextlib.closing(results):
            for group, counts in zip(groups, results, strict=True):
                if isinstance(counts, Exception):
                    raise ValueError(f"tiles {group[0].index} to {group[-1].index}: {counts}")
                yield from zip(group, counts, strict=True)

    return search


def search_tiles_in_worker(source, path, options, folder, tiles):
    """Do `search_tiles` in a worker of a cluster.

    Args:
        source: a `WorkerSource`.
        path: of the slide.
        options: an `Options`.
        folder: path of the work folder.
        tiles: a list of `Tile`.

    Returns:
        The number of nuclei of each tile.

    Raises:
        ValueError: the work folder has no setup, or the slide cannot be read.
    """
    work = WorkFolder(folder)
    work.require_setup()  # before anything that takes time
    model, slide = model_of_worker(source), open_slide(path, options.channel, options.plane)
    results = search_tiles(slide, work, tiles, model, options)
    return [num_nuclei for _, num_nuclei in results]
