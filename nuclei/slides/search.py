"""The search of a slide: from its overview to a finished `FoundOnSlide`, tile by tile.

One thread reads ahead, one runs the network, others separate and measure. The nuclei of a tile are
written to the work folder at once, so a run that was killed goes on where it stopped.
"""

import contextlib
import hashlib
import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nuclei.images.writing import write_picture
from nuclei.progress import Progress
from nuclei.slides.found import FoundOnSlide
from nuclei.slides.overview import OVERVIEW_PX
from nuclei.slides.setup import decide
from nuclei.slides.tile_nuclei import find_in_tile
from nuclei.slides.tiles import cut_tiles, has_tissue, read_tile
from nuclei.slides.tissue import find_tissue, tissue_file
from nuclei.slides.work import work_folder

MASK_PX = 1024  # longest side of the tissue mask
MASK_STEP_PX = 8  # least side of a pixel of the mask, in px of the slide
NUM_THREADS = 1  # of separation, beside one that reads and one that runs the network


def find_nuclei_on_slide(slide, job, run, search=None):
    """Find the nuclei of a slide. What an earlier run has finished is kept.

    Args:
        slide: a `Slide`.
        job: the `Job` of the slide; its stem names the work folder and the results.
        run: the `Run`; results of another model or other settings (`made_by`) are begun anew.
        search: does the tiles elsewhere: from (`WorkFolder`, tiles) a generator as of
            `search_tiles`. Everything else that it takes lies in the work folder.

    Returns:
        `FoundOnSlide`.

    Raises:
        ValueError: the slide is damaged, or the tile too small.
        OSError: the disk is full.
    """
    work = work_folder(run.out, job.stem)
    overview = slide.thumbnail(OVERVIEW_PX)
    mask = mask_tissue(slide, overview, run.options)
    setup = begin(slide, overview, mask, job, run)
    if not mask.any():
        print(f"{job.stem}: no tissue was found on it (--no-tissue-mask has all of it searched)")
    tiles = [tile for tile in cut_tiles(setup) if has_tissue(mask, tile.core, setup.shape)]
    work.refresh()
    counts = {tile.index: work.count_nuclei(tile) for tile in tiles}
    todo = [tile for tile in tiles if counts[tile.index] is None]
    if len(todo) < len(tiles):
        num_before = len(tiles) - len(todo)
        print(f"{job.stem}: {num_before} of {len(tiles)} tiles were finished before")
    if search is None:
        results = search_tiles(slide, work, todo, run.model, run.options)
    else:
        results = search(work, todo)
    mpp = run.options.mpp or slide.mpp
    with contextlib.closing(results), progress_of(job, tiles, todo, mpp) as progress:
        num_nuclei = sum(count for count in counts.values() if count)
        for tile, num_in_tile in results:
            num_nuclei += num_in_tile
            progress.add(tile.core.area_px * px_area(mpp), note=f"{num_nuclei:,} nuclei")
    work.refresh()
    return FoundOnSlide(job, work, tiles, setup, overview, mpp)


def progress_of(job, tiles, todo, mpp):
    """The `Progress` of a slide: in mm², or in megapixels where the pixel size is unknown."""
    total, left = (
        float(sum(tile.core.area_px for tile in part) * px_area(mpp)) for part in (tiles, todo)
    )
    unit = "MP" if mpp is None else "mm²"
    return Progress(job.stem, total, unit, log=True, done=total - left)


def px_area(mpp):
    """What a pixel adds to the progress: mm², or megapixels where mpp is None."""
    return 1e-6 if mpp is None else 1e-6 * mpp**2


def mask_tissue(slide, overview, options):
    """The tissue mask of a slide, (h, w) bool; all True where the options want no mask.

    Args:
        slide: a `Slide`.
        overview: (H, W, 3), its thumbnail.
        options: an `Options`.
    """
    longest = max(overview.shape)
    step = max(-(-longest // MASK_PX), -(-MASK_STEP_PX * longest // max(slide.shape)))
    mask = find_tissue(overview, step)
    return mask if options.tissue_mask else np.ones_like(mask)


def begin(slide, overview, mask, job, run):
    """The `Setup` of a slide: of an earlier run where it fits, else decided now.

    Writes the setup, the mask and the picture of the mask. What an earlier run began with other
    settings, or of another file, is removed.

    Args: as `find_nuclei_on_slide` has them.
    """
    work = work_folder(run.out, job.stem)
    key = key_of(slide, run)
    setup = work.read_setup()
    if setup is None or setup.key != key:
        if work.path.exists():
            print(f"{job.stem}: begun anew, because the settings or the file have changed")
            work.clear()
        setup = decide(slide, overview, mask, run.model, run.options, key)
        if run.options.tissue_mask:
            picture = np.repeat(mask[..., None], 3, axis=2) * np.uint8(255)
            write_picture(tissue_file(run.out, job.stem), picture)
        work.write_setup(setup)
    work.write_mask(mask)
    return setup


def key_of(slide, run):
    """A hash of a slide and everything that decides its nuclei."""
    stat, options, model = slide.path.stat(), run.options, run.model
    parts = (
        run.made_by,
        slide.path.name,
        stat.st_size,
        stat.st_mtime_ns,
        slide.shape,
        options.scale_for(model, slide.mpp),
        options.tile_px,
        model.margin_px,
        model.multiple_px,
        options.channel,
        options.plane,
        options.tissue_mask,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def search_tiles(slide, work, tiles, model, options):
    """Search tiles, and write what each has to the work folder.

    Args:
        slide: a `Slide`.
        work: its `WorkFolder`, with setup and mask.
        tiles: a list of `Tile`.
        model: a `Model`.
        options: an `Options`.

    Returns:
        A generator of (tile, number of nuclei), in the order of the tiles.

    Raises:
        ValueError: the work folder has no setup, or belongs to another run by now.
    """
    setup = work.require_setup()
    mask, separator = work.read_mask(), options.separator_for(model, setup.scale)

    def read(tile):
        return read_tile(slide, tile, setup)

    def keep(tile, window_maps, image):
        nuclei = find_in_tile(tile, window_maps, image, setup, mask, separator)
        setup_now = work.read_setup()
        if setup_now is None or setup_now.key != setup.key:
            raise ValueError(f"{work.path} belongs to another run now; this tile is left out")
        work.write_tile(tile, nuclei)
        return len(nuclei)

    return run_tiles(tiles, read, model, keep, options.batch_size)


def run_tiles(tiles, read, model, keep, batch_size=1):
    """Do tiles on several threads. None of the threads gets far ahead, which bounds the memory.

    Args:
        tiles: a list of `Tile`.
        read: from a tile to (window, image), as `read_tile`.
        model: from (B, h, w, 3) to (B, h, w, K).
        keep: from (tile, maps, image) to a result.
        batch_size: windows in one call of the model.

    Yields:
        (tile, result), in the order of the tiles.
    """
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(NUM_THREADS) as separating:
        coming, being_read, being_kept = iter(tiles), deque(), deque()
        try:
            while True:
                for tile in itertools.islice(coming, 2 * batch_size - len(being_read)):
                    being_read.append((tile, reading.submit(read, tile)))
                if not being_read:
                    break
                group = [being_read.popleft() for _ in range(min(batch_size, len(being_read)))]
                pixels = [future.result() for _, future in group]
                batch = np.stack([window for window, _ in pixels])
                maps_of_batch = np.asarray(model(batch))
                for (tile, _), (_, image), maps in zip(group, pixels, maps_of_batch, strict=True):
                    while len(being_kept) > NUM_THREADS:
                        finished_tile, future = being_kept.popleft()
                        yield finished_tile, future.result()
                    being_kept.append((tile, separating.submit(keep, tile, maps, image)))
            for tile, future in being_kept:
                yield tile, future.result()
        finally:
            for _, future in (*being_read, *being_kept):
                future.cancel()
