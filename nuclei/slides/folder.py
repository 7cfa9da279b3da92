"""nuclei.slides.folder"""

import contextlib
import sys
import time
from pathlib import Path

import numpy as np

from nuclei.inference.cluster import network_of_worker
from nuclei.inference.scale import SCALE_LIMITS
from nuclei.inference.threads import in_order
from nuclei.model_file import TRAINED_DIAMETER_PX
from nuclei.results.image import DEFAULT_FORMATS, write_rows
from nuclei.results.tables import SUMMARY, append_table
from nuclei.slides.formats import open_slide
from nuclei.slides.found import SLIDE_FORMATS, SLIDE_FORMATS_DEFAULT
from nuclei.slides.search import find_nuclei_on_slide, search_tiles
from nuclei.slides.setup import clear, read_setup
from unet import network_geometry

NUCLEUS_UM = 8.0  # median nucleus diameter assumed with --mpp: between lymphocytes (6-7) and cultured cells (10-15)
MPP_TIMES = 1.5  # between --mpp and what a slide says, from which that is told
TILES_TOGETHER = 4  # windows of a slide that a worker does in one go, reading ahead; lost with it if it dies
SLIDES_AT_ONCE = 4  # on a cluster: while one is put together, the workers have another


def formats_of(path, is_slide, asked):
    """The formats of an image or slide, of those asked for (None: the default). Raises: ValueError where none is left."""
    if not is_slide:
        return list(asked or DEFAULT_FORMATS)
    formats = [name for name in asked or SLIDE_FORMATS_DEFAULT if name in SLIDE_FORMATS]
    if not formats:
        raise ValueError(f"{path} is a slide, which is written as {', '.join(SLIDE_FORMATS)}; got {', '.join(asked)}")
    if left := [name for name in asked or () if name not in formats]:
        print(f"{path} is a slide: no {', '.join(left)} of it (its labels are ometiff or omezarr)")
    return formats


def process_slide(
    args, out, stem, path, network, num_maps, thresholds, trained_diameter, scale, geometry, settings, made_by, formats,
    formats_there, cluster=None,
):  # fmt: skip
    """Find the nuclei of a slide and write what is its alone, as `predict_image` and `write_files` do for an image.

    Returns:
        `FoundOnSlide`, and its row of summary.csv, a dict; `write_slide_rows` takes both.

    Raises:
        ValueError: as `open_slide` and `find_nuclei_on_slide`.
    """
    started = time.monotonic()
    slide = open_slide(path, args.channel)
    for note in slide.notes:
        print(f"{stem}: {note}")
    mpp = slide.mpp if args.mpp is None else args.mpp
    if args.mpp and slide.mpp and max(args.mpp / slide.mpp, slide.mpp / args.mpp) > MPP_TIMES:
        print(f"{stem}: --mpp {args.mpp:g} is taken, although the file says {slide.mpp:g} µm per pixel")
    if scale is None and mpp:
        scale = float(np.clip(trained_diameter / (NUCLEUS_UM / mpp), *SCALE_LIMITS))
    weights = settings["calibration"]["weights"] if "calibration" in settings else None
    search = None if cluster is None else searching(cluster, path, args.channel, weights, args.batch_size)
    found = find_nuclei_on_slide(
        slide, out, stem, network, num_maps, thresholds, trained_diameter, geometry, made_by, scale=scale, min_area=args.min_area,
        weights=weights, mpp=mpp, tile=args.tile, batch_size=args.batch_size, tissue_mask=not args.no_tissue_mask,
        channel=args.channel, search=search,
    ).gather()  # fmt: skip
    found.write(out, formats)
    if found.cut:
        print(f"{stem}: {found.cut} nuclei are larger than windows overlap; they may be cut, or there twice (--diameter?)")
    summary = {"image": stem, "file": path.name, **found.summary()}
    summary["out_of_distribution"] = int(summary["uncertainty"] > settings["out_of_distribution"]["uncertainty_above"]) if "out_of_distribution" in settings else ""
    summary |= {"seconds": round(time.monotonic() - started, 3), "made_by": made_by}
    summary["formats"] = " ".join(dict.fromkeys([*formats_there, *formats]))
    return found, {name: summary[name] for name in SUMMARY}


def write_slide_rows(out, found, summary, formats, formats_there):
    """`write_rows` of a slide, a part of its nuclei at a time; then what it was put together from is no longer needed."""
    if "csv" in formats:
        for table, _ in found.parts():
            append_table(out / "nuclei.csv", table)
    write_rows(out, None, summary, (), formats_there)
    clear(out, found.stem)


def predict_slides(args, out, files, network, thresholds, scale, settings, made_by, asked, there, cluster=None):
    """Find the nuclei of slides and write them: one after the other, or several at once on a cluster.

    Returns:
        As `predict_all`.
    """
    num_maps, geometry = len(settings["architecture"]["heads"]), network_geometry(settings["architecture"])
    trained_diameter = settings.get("trained_diameter_px", TRAINED_DIAMETER_PX)

    def work(stem):
        try:
            return process_slide(
                args, out, stem, files[stem], network, num_maps, thresholds, trained_diameter, scale, geometry, settings, made_by,
                asked[stem], there.get(stem, ()), cluster,
            )  # fmt: skip
        except (ValueError, MemoryError) as error:
            return error

    nuclei, failures = 0, []
    one_by_one = (work(stem) for stem in files)
    results = one_by_one if cluster is None else in_order(work, files, SLIDES_AT_ONCE, cluster.stopped.set)
    with contextlib.closing(results):
        for (stem, path), result in zip(files.items(), results, strict=True):
            if isinstance(result, Exception):
                failures.append(f"{path}: {result}" if str(path) not in str(result) else str(result))
                print(f"\nskipped: {failures[-1]}", file=sys.stderr)
            else:
                write_slide_rows(out, *result, asked[stem], there.get(stem, ()))
                nuclei += result[1]["nuclei"]
    return nuclei, failures


def search_tiles_in_worker(model, path, channel, folder, thresholds, weights, batch_size, units):
    """`search_tiles` in a worker; the number of nuclei of each unit."""
    network, setup = network_of_worker(model), read_setup(folder)
    if setup is None:
        raise ValueError(f"{folder} has no setup.json yet, or no longer; run again to go on from what is finished")
    slide, mask = open_slide(path, channel), np.load(folder / "mask.npy")
    return [n for _, n in search_tiles(slide, folder, units, setup, mask, network, thresholds, weights, batch_size)]


def searching(cluster, path, channel, weights, batch_size):
    """The `search` of `find_nuclei_on_slide` for a slide, by the workers of a cluster."""

    def search(folder, units, thresholds):
        parts = [units[first : first + TILES_TOGETHER] for first in range(0, len(units), TILES_TOGETHER)]
        told = (cluster.model, Path(path).absolute(), channel, Path(folder).absolute(), thresholds, weights, batch_size)
        with contextlib.closing(cluster.in_order(search_tiles_in_worker, ((*told, part) for part in parts))) as results:
            for part, counts in zip(parts, results, strict=True):
                if isinstance(counts, Exception):
                    raise ValueError(f"windows {part[0].index} to {part[-1].index}: {counts}")
                yield from zip(part, counts, strict=True)

    return search
