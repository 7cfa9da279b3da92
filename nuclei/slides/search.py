"""nuclei.slides.search"""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nuclei.files import replacing
from nuclei.images.resize import resize_maps
from nuclei.inference.tiling import TILE_PX
from nuclei.instances.confidence import confidence, confidence_features
from nuclei.instances.measure import WindowOf, count_touching, measure
from nuclei.instances.separate import separate
from nuclei.polygons import outlines, pack
from nuclei.slides.found import FoundOnSlide, write_picture
from nuclei.slides.setup import decide, read_setup, tile_path, work_folder
from nuclei.slides.tiles import cut_tiles, has_tissue, read_tile
from nuclei.slides.tissue import find_tissue

OVERVIEW_PX = 4096  # of the picture of the whole slide
MASK_PX, MASK_STEP_PX = 1024, 8  # the tissue mask: its longest side, and the least side of its pixels in px of the slide
SAY_SECONDS = 30.0  # between two lines of progress
THREADS = 1  # of separation, beside one that reads and one that runs the network


def search_tile(unit, painted, image, setup, mask, thresholds, weights):
    """The nuclei that a unit owns.

    Args:
        painted: maps of its window, (h, w, K) float32. image: its region, (rows, columns, 3).
        mask: of the tissue; what has its centroid elsewhere is dust. weights: of `confidence`, or None.

    Returns:
        A dict of arrays: "t NAME" the columns of `measure`, in their order; "centroids" (n, 2) px, not rounded;
        "corners" and "lengths", see `pack`; "uncertainty", the two sums of `image_uncertainty` over the core; "cut", how many
        nuclei reach beyond the region although they are owned, and so are larger than any should be.
    """
    region, core = unit.region, unit.core
    maps = resize_maps(painted, setup.shape, setup.seen, (unit.window.top, unit.window.left), region)
    labels = separate(maps, scale=setup.scale, **thresholds)
    inside = np.flatnonzero(labels)
    of = labels.ravel()[inside]
    areas = np.bincount(of, minlength=1)
    places = [np.bincount(of, at, minlength=1) for at in np.divmod(inside, labels.shape[1])]
    # Whole numbers until the division: each unit that sees a nucleus computes the same centroid to the last bit.
    rows, columns = ((sums + start * areas) / np.maximum(areas, 1) for sums, start in zip(places, region[::2], strict=True))
    owned = (core.top <= rows) & (rows < core.bottom) & (core.left <= columns) & (columns < core.right) & (areas > 0)
    owned &= mask[tuple((np.divide([rows, columns], np.transpose([setup.shape])) * np.transpose([mask.shape])).astype(int))]
    owned[0] = False
    new_ids = np.where(owned, owned.cumsum(), 0).astype(np.int32)
    mine = new_ids[labels]
    outlined = [(index, [[ring + (region.top, region.left) for ring in rings] for rings in polygons])
                for index, polygons in outlines(mine)]  # fmt: skip
    window = WindowOf(region.top, region.left, *setup.shape, setup.white)
    table = measure(mine, image, maps, setup.kind == "tissue", window=window, outlined=outlined)
    table["touching_nuclei"] = count_touching(labels, np.flatnonzero(owned))
    if weights is not None:
        sure = confidence(confidence_features(mine, maps, setup.scale), weights).round(4)
        before = list(table).index("mean_probability")
        table = dict([*list(table.items())[:before], ("confidence", sure), *list(table.items())[before:]])
    edges = [edge for edge, whole in (
        (mine[0], region.top == 0), (mine[-1], region.bottom == setup.shape[0]),
        (mine[:, 0], region.left == 0), (mine[:, -1], region.right == setup.shape[1])) if not whole]  # fmt: skip
    cut = np.unique(np.concatenate([*edges, [0]])).size - 1
    part = maps[core.top - region.top : core.bottom - region.top, core.left - region.left : core.right - region.left, 0]
    sure = part.astype(np.float64)
    return {
        **{f"t {name}": values for name, values in table.items()},
        "centroids": np.stack([rows[owned], columns[owned]], axis=1),
        **pack([polygons for _, polygons in outlined]),
        "uncertainty": np.array([np.minimum(sure, 1 - sure).sum(), sure.sum()]),
        "cut": np.array(cut),
    }


def run_tiles(units, read, network, keep, batch_size=1, threads=THREADS):
    """Do units: one thread reads ahead, this one runs the network, `threads` others separate; none gets far ahead.

    Args:
        read: unit -> (window, image). network: (B, h, w, 3) -> (B, h, w, K). keep: (unit, maps, image) -> anything.

    Yields:
        (unit, what `keep` returned), in the order of the units.
    """
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(threads) as separating:
        units, ahead, behind = iter(units), deque(), deque()
        try:
            while True:
                for unit in itertools.islice(units, 2 * batch_size - len(ahead)):
                    ahead.append((unit, reading.submit(read, unit)))
                if not ahead:
                    break
                group = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
                seen = [(unit, *coming.result()) for unit, coming in group]
                painted = np.asarray(network(np.stack([window for _, window, _ in seen])))
                for (unit, _, image), maps in zip(seen, painted, strict=True):
                    while len(behind) > threads:
                        unit_, done = behind.popleft()
                        yield unit_, done.result()
                    behind.append((unit, separating.submit(keep, unit, maps, image)))
            for unit, done in behind:
                yield unit, done.result()
        finally:
            for _, waiting in (*ahead, *behind):
                waiting.cancel()


def find_nuclei_on_slide(
    slide, out, stem, network, num_maps, thresholds, trained_diameter, geometry, made_by, scale=None, min_area=None,
    weights=None, mpp=None, tile=TILE_PX, batch_size=1, tissue_mask=True, threads=THREADS, channel=None, say=print,
    search=None,
):  # fmt: skip
    """Find the nuclei of a slide, going on where an earlier run was stopped.

    Args:
        slide: a `Slide`. out, stem: results go to out/FOLDER/STEM..., what is not finished to `work_folder`.
        network, num_maps, thresholds, trained_diameter, geometry, scale, min_area, tile, batch_size: as of predict_image.
        made_by: names the model and the settings; what was begun by others is begun anew.
        weights: of `confidence`. mpp: µm per pixel of the slide.
        tissue_mask: units without tissue are passed over; otherwise all are read.
        search: does units elsewhere: from (work folder, units, thresholds) a generator as of `search_tiles`. Everything else
            that it takes lies in the work folder: `read_setup`, mask.npy.

    Returns:
        `FoundOnSlide`.

    Raises:
        ValueError: the slide is damaged, or the tile too small. OSError: the disk is full.
    """
    folder = work_folder(out, stem)
    overview = slide.thumbnail(OVERVIEW_PX)
    longest = max(overview.shape)
    step = max(-(-longest // MASK_PX), -(-MASK_STEP_PX * longest // max(slide.shape)))
    mask = find_tissue(overview, step)
    if not tissue_mask:
        mask = np.ones_like(mask)
    stat = slide.path.stat()
    parts = [made_by, slide.path.name, stat.st_size, stat.st_mtime_ns, slide.shape, scale, tile, geometry, channel, tissue_mask]
    key = hashlib.sha256(repr(parts).encode()).hexdigest()
    setup = read_setup(folder)
    if setup is None or setup.key != key:
        if folder.exists():
            say(f"{stem}: what an earlier run began with other settings, or of another file, is begun anew")
            shutil.rmtree(folder)
        setup = decide(slide, overview, mask, network, num_maps, trained_diameter, geometry, scale, tile, key)
        if tissue_mask:
            write_picture(Path(out) / "tissue" / f"{stem}.png", np.repeat(mask[..., None], 3, axis=2) * np.uint8(255))
        with replacing(folder / "setup.json") as temporary:
            temporary.write_text(json.dumps(setup._asdict()), encoding="utf-8")
    with replacing(folder / "mask.npy") as temporary:
        np.save(temporary, mask)
    if not mask.any():
        say(f"{stem}: no tissue was found on it (--no-tissue-mask has all of it searched)")
    units = [unit for unit in cut_tiles(setup) if has_tissue(mask, unit.core, setup.shape)]
    found = FoundOnSlide(slide, stem, folder, units, setup, overview, mpp)
    os.listdir(folder)  # a shared folder may remember for a minute what was not there: this asks its server
    counts = {unit.index: found.count(unit) for unit in units}
    todo = [unit for unit in units if counts[unit.index] is None]
    if len(todo) < len(units):
        say(f"{stem}: {len(units) - len(todo)} of {len(units)} windows were finished before")
    if min_area is not None:  # the user's pixels are the slide's, not the network's
        thresholds = {**thresholds, "min_area_px": min_area * setup.scale**2}

    progress = Progress(stem, units, todo, sum(filter(None, counts.values())), mpp, say)
    if search is None:
        done = search_tiles(slide, folder, todo, setup, mask, network, thresholds, weights, batch_size, threads)
    else:
        done = search(folder, todo, thresholds)
    with contextlib.closing(done):
        for unit, nuclei in done:
            progress.add(unit, nuclei)
    os.listdir(folder)
    return found


def search_tiles(slide, folder, units, setup, mask, network, thresholds, weights, batch_size=1, threads=THREADS):
    """Search units and keep what each has in its file in `folder`; yields (unit, number of nuclei), in their order."""

    def keep(unit, maps, image):
        arrays = search_tile(unit, maps, image, setup, mask, thresholds, weights)
        told = read_setup(folder)
        if told is None or told.key != setup.key:
            raise ValueError(f"{folder} now belongs to another run; what this one has found is left out")
        with replacing(tile_path(folder, unit)) as temporary:
            np.savez_compressed(temporary, **arrays)
        return len(arrays["centroids"])

    return run_tiles(units, lambda unit: read_tile(slide, unit, setup), network, keep, batch_size, threads)


class Progress:
    """A line every SAY_SECONDS and at the end: what is done, how many nuclei so far, and how long it will take."""

    def __init__(self, stem, units, todo, nuclei, mpp, say):
        self.stem, self.left, self.nuclei, self.mpp, self.say = stem, len(todo), nuclei, mpp, say
        self.total = sum(unit.area_px for unit in units)
        self.done = self.total - sum(unit.area_px for unit in todo)
        self.before, self.started, self.said = self.done, time.monotonic(), time.monotonic()

    def add(self, unit, nuclei):
        """One more unit is finished."""
        self.done, self.nuclei, self.left = self.done + unit.area_px, self.nuclei + nuclei, self.left - 1
        now = time.monotonic()
        if self.left and now - self.said < SAY_SECONDS:
            return
        self.said = now
        if self.mpp is None:
            area = f"{self.done / 1e6:.1f} of {self.total / 1e6:.1f} MP"
        else:
            area = f"{self.done * self.mpp**2 / 1e6:.2f} of {self.total * self.mpp**2 / 1e6:.2f} mm²"
        passed = now - self.started
        left = passed / (self.done - self.before) * (self.total - self.done)
        self.say(f"{self.stem}: {area}, {self.nuclei} nuclei, {passed:.0f} s, {left:.0f} s left")
