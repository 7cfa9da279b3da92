"""Find every nucleus in images: masks, separated nuclei, overlays and tables.

    python predict.py                                       # test_raw -> predictions/
    python predict.py slides/a.png more_images --out found  # files and folders
    python predict.py --mpp 0.5                             # micrometres per pixel are known: no guessing of the scale
    python predict.py slide.svs                             # a whole slide, or a folder of them
    python predict.py --model Saved_Model/previous/2026-11-22_10-00-00/trained_model.h5 --out old

For every image, at its own size:

    predictions/masks/STEM.png      0 background, 255 nucleus
    predictions/labels/STEM.png     16-bit, 0 background, 1...n nuclei (32-bit STEM.tif above 65,535 nuclei)
    predictions/overlays/STEM.jpg   outlines on the image, one colour for each nucleus
    predictions/nuclei.csv          one row for each nucleus
    predictions/summary.csv         one row for each image

    python predict.py --formats masks,geojson,imagej        # these instead; exports.py says what each of them is for
    python predict.py --engine keras                        # instead of the fastest that is installed; unet.py has a list

A whole slide (.svs, .ndpi, .mrxs ..., OME-TIFF, large tiled TIFF, OME-Zarr) is read window by window where there is tissue:

    predictions/tissue/STEM.png             where that is
    predictions/overlays/STEM.jpg           the slide with its nuclei, or how many there are where
    predictions/geojson/STEM.geojson.zip    for QuPath
    predictions/nuclei.csv, summary.csv     as for images; --formats adds ometiff, omezarr, geojson.gz, parquet

The network knows nuclei of one size. How large those of an image are is estimated first, and the image is shown to the
network so much larger or smaller (column zoom of summary.csv); all results are at the image's own size.

    python predict.py my_images --workers 4                          # four processes, each with a GPU of its own
    python predict.py slides --scheduler tcp://10.0.0.1:8786         # the workers of a Dask cluster

A second run goes on where the first one was stopped and skips what is finished; a format that an image lacks is added. A
file that cannot be read is named and skipped; the exit status is then 1.
"""

import argparse
import contextlib
import csv
import functools
import hashlib
import io
import itertools
import logging
import os
import pickle
import platform
import shlex
import sys
import threading
import time
from collections import deque
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

import exports
import instances
import slides
import tiling
import unet
from import_data import (
    IMAGE_SUFFIXES,
    LOCK,
    declared_pixels,
    find_images,
    first_line,
    image_files,
    intensity_range,
    modality,
    named,
    normalise,
    only_run,
    positive,
    read_image,
    replacing,
    user_errors_in_one_line,
)

INPUT = "test_raw"
MODELS = ("Saved_Model/trained_model.h5", "Saved_Model/pretrained.h5")  # the user's own before the shipped one
OUT = "predictions"
SEEN_DIAMETER_PX = 24  # median nucleus diameter that a model was trained for, where its file does not say
NUCLEUS_UM = 8.0  # median nucleus diameter assumed with --mpp: between lymphocytes (6-7) and cultured cells (10-15)
FORMATS = ("masks", "labels", "overlays", "csv")  # written unless --formats says otherwise; csv is nuclei.csv
MPP_TIMES = 1.5  # between --mpp and what a slide says, from which that is told
SUMMARY = (  # columns of summary.csv
    "image", "file", "height_px", "width_px", "modality", "nuclei", "median_diameter_px", "zoom", "doubt", "unlike_training",
    "nucleus_share", "intensity_low", "intensity_high", "seconds", "mpp", "made_by", "formats",
)  # fmt: skip
WORKERS = min(8, (os.cpu_count() or 1) + 1)  # images worked on at once: one is in the network, the others before or after it
SLIDES_AT_ONCE = 4  # on a cluster: while one is put together, the workers have another
UNITS_TOGETHER = 4  # windows of a slide that a worker does in one go, reading ahead; lost with it if it dies
JOBS_AHEAD = 3  # handed out for each thread of the workers, of which two wait
THREADS_OF_WORKER = 2  # of a local worker: one image is in the network, the other before or after it
ANSWER_SECONDS, WORKER_SECONDS = 10, 60  # until a scheduler has to answer, and the first worker to be there
SILENT_SECONDS = 60  # without a result, after which it is looked whether there are workers at all
MAKING = threading.Lock()  # of a worker's network
GONE = "the Dask scheduler has gone; what is finished stays, and the same command goes on from there"
PIXELS_AT_ONCE = 16_000_000  # of these images together, some 80 bytes each; a larger image is worked on alone
JPEG_QUALITY = 92  # of overlays only: they are for the eye, nothing is measured on them
OVERLAY_COLOURS = (  # RGB; bright and far from both the purples of tissue and the greys of fluorescence
    (255, 221, 0), (0, 229, 118), (0, 214, 255), (255, 112, 67), (178, 255, 89), (255, 64, 129),
)  # fmt: skip


def collect(inputs):
    """Files of images and slides of the given files and folders, {stem: path}, in the order given.

    Raises:
        FileNotFoundError, ValueError: an input is missing or no image, a folder is empty, or a stem appears twice.
    """
    suffixes = (*IMAGE_SUFFIXES, *slides.SUFFIXES)
    found = {}
    for entry in map(Path, inputs):
        if not entry.exists():
            raise FileNotFoundError(f"{entry} does not exist; expected a file of an image or slide, or a folder of them")
        if entry.is_file() or slides.is_slide(entry):
            if entry.suffix.lower() not in suffixes:
                raise ValueError(f"{entry} is no image by its name; expected one of {', '.join(suffixes)}")
            files = [(entry.stem, entry)]
        else:
            files = slides.find_slides(entry)
            files += find_images(entry).items() if image_files(entry) or not files else ()
        for stem, path in files:
            if stem in found and found[stem].resolve() != path.resolve():
                raise ValueError(f"{found[stem]} and {path} would both become {stem}.png; predict into two --out folders")
            found.setdefault(stem, path)
    return found


def find_model(model):
    """The model file to use: the one asked for, else the first of MODELS that is there."""
    if model:
        return Path(model)
    for path in map(Path, MODELS):
        if path.is_file():
            return path
    raise FileNotFoundError(f"neither {MODELS[0]} nor {MODELS[1]} is there; train one (python train.py) or give --model FILE")


# --- Tables that survive being cut off ------------------------------------------------------------------------------


def read_table(path):
    """The whole rows of a CSV file, all cells as text; a last row that was cut off is left out."""
    import pandas as pd  # here and below: its import takes half a second, which --help does not have

    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    text = text[: text.rfind("\n") + 1]
    if not text:
        return pd.DataFrame(columns=["image", "made_by"])
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except ValueError as error:
        raise ValueError(f"{path} is no table of ours ({error}); give --out another folder") from None
    if "image" not in table or (path.name == "summary.csv" and "made_by" not in table):
        raise ValueError(f"{path} is no table of ours: it has the columns {named(table)}; give --out another folder")
    return table


def write_table(path, table):
    """Replace a CSV file by these rows; without rows, remove it."""
    if table.empty:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def append_table(path, table):
    """Add rows at the end of a CSV file, with the header where it is new. Columns are matched by name: of a table with
    other columns, such as that of an earlier version, both are kept and what is missing stays empty."""

    columns = None
    if path.is_file() and path.stat().st_size:
        with open(path, newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file))
    if columns is not None:
        if more := [name for name in table if name not in columns]:
            rewrite_rows(path, lambda row: row, more)
        if list(table) != columns + more:
            table = table.reindex(columns=columns + more)
    table.to_csv(path, mode="a", header=columns is None, index=False, lineterminator="\n")


def rewrite_rows(path, change, more_columns=()):
    """Pass each whole row of a CSV file, a dict of texts, through `change`, which drops it by None: one at a time, since
    slides have millions of rows. Columns are added at the end; a file without rows is removed, one that stays is left alone.

    Raises: ValueError where it is no table of ours.
    """

    def rows(file):  # a last line that was cut off is left out
        return csv.DictReader((line for line in file if line.endswith("\n")), restval="")

    if not path.is_file():
        return
    with open(path, newline="", encoding="utf-8") as old:
        header = rows(old).fieldnames or []
        if header and "image" not in header:
            raise ValueError(f"{path} is no table of ours: it has the columns {named(header)}; give --out another folder")
        old.seek(0)
        total = sum(bool(line) for line in old) - 1
        old.seek(0)
        kept = sum(change(row) is not None for row in rows(old))
        if kept == total and not more_columns:
            return
        if not kept and not more_columns:
            path.unlink()
            return
        old.seek(0)
        with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as new:
            writer = csv.DictWriter(new, [*header, *more_columns], restval="", extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(row for row in map(change, rows(old)) if row is not None)


def replace_row(path, row):
    """Put a row, a dict, into summary.csv, in the place of an earlier one of the same image."""
    import pandas as pd

    table = read_table(path)
    write_table(path, pd.concat([table[table["image"] != row["image"]], pd.DataFrame([row])]))


def finished_before(out, made_by, overwrite, stems):
    """What an earlier run has finished in `out`, after both tables are reduced to whole images: {stem: its formats}.

    An image is finished when summary.csv has its row, which is written last.

    Raises:
        ValueError: `out` holds results for these stems that were made by another model or with other settings.
    """
    summary = read_table(out / "summary.csv")
    asked = summary["image"].isin(list(stems))
    others = summary["image"][asked & (summary["made_by"] != made_by)]
    if len(others) and not overwrite:
        raise ValueError(
            f"{out} holds results for {named(others)} by another model or other settings; give --out another folder, "
            "or --overwrite to replace them"
        )
    if "formats" not in summary:  # of an earlier version, which wrote these always
        summary["formats"] = " ".join(FORMATS)
    with_table = summary["formats"].str.split().map(lambda formats: "csv" in formats).astype(bool)
    kept = summary[~asked] if overwrite else summary
    whole = set(kept["image"][with_table[kept.index]])
    rewrite_rows(out / "nuclei.csv", lambda row: row if row["image"] in whole else None)  # first, since it may refuse
    write_table(out / "summary.csv", kept)
    return {image: formats.split() for image, formats in zip(summary["image"][asked], summary["formats"][asked], strict=True)}


# --- One image ------------------------------------------------------------------------------------------------------


def draw_overlay(image, intensity, labels):
    """Outlines on the image as the network sees it (dark images brightened): (H, W, 3) uint8."""
    picture = (normalise(image, intensity) * 255).astype(np.uint8)
    edge = np.zeros(labels.shape, bool)  # of any two ids, on both sides
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = labels[one] != labels[other]
        edge[one] |= differ
        edge[other] |= differ
    edge &= labels > 0
    colours = np.array(OVERLAY_COLOURS, np.uint8)
    picture[edge] = colours[labels[edge] % len(colours)]
    return picture


def write_png(path, array):
    """A grey or RGB PNG, 8 or 16 bits, whole or not at all."""
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 3, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]  # and a third smaller
    encoded(path, ".png", array, fast)


def encoded(path, suffix, array, options):
    """Write what OpenCV encodes; colours go in as BGR."""
    array = array if array.ndim == 2 else array[..., ::-1]
    good, code = cv2.imencode(suffix, np.ascontiguousarray(array), options)
    if not good:
        raise ValueError(f"{path}: an array of shape {array.shape}, type {array.dtype} cannot be written as {suffix}")
    with replacing(path) as temporary:
        temporary.write_bytes(code.tobytes())


def find_labels(folder, stem):
    """The label image that `write_labels` wrote for a stem: `folder`/STEM.tif where there is one, else STEM.png."""
    large = folder / f"{stem}.tif"
    return large if large.is_file() else folder / f"{stem}.png"


def write_labels(folder, stem, labels):
    """Labels as 16-bit PNG, or 32-bit TIFF where there are too many; a file of the other kind is removed."""
    small, large = folder / f"{stem}.png", folder / f"{stem}.tif"
    if labels.max() <= 65535:
        write_png(small, labels.astype(np.uint16))
        large.unlink(missing_ok=True)
    else:
        import tifffile

        with replacing(large) as temporary:
            tifffile.imwrite(temporary, labels.astype(np.uint32), compression="zlib")
        small.unlink(missing_ok=True)


def predict_image(path, network, num_maps, thresholds, min_area, seen_diameter, zoom, tile, batch_size, geometry):
    """Read one image and find its nuclei.

    Args:
        network: from (B, h, w, 3) float32 to (B, h, w, num_maps), as `model.predict_on_batch`.
        min_area: in px of the image, below which an object is dropped; None for the model's.
        seen_diameter: median nucleus diameter in px that the network was trained for.
        zoom: of the image for the network; None estimates it.
        geometry: margin and size multiple of the network, for `tiling.cut`.

    Returns:
        image (H, W, 3), its intensity range, labels (H, W) int32, maps (H, W, num_maps) float32, zoom.
    """
    image = read_image(path)
    intensity = intensity_range(image)  # of the whole image: a tile of background alone must not be stretched
    maps, zoom = tiling.predict_at_known_size(
        network,
        image,
        num_maps,
        seen_diameter,
        # By the default thresholds, as train.py has it: those chosen on validation were chosen at the zooms that these give.
        measure=lambda seen: instances.median_diameter(instances.separate(seen)),
        doubt=instances.image_doubt,
        zoom=zoom,
        prepare=lambda part: normalise(part, intensity),
        tile=tile,
        batch_size=batch_size,
        **geometry,
    )
    if min_area is not None:  # the user's pixels are the image's, not the network's
        thresholds = {**thresholds, "min_area_px": min_area * zoom**2}
    return image, intensity, instances.separate(maps, zoom=zoom, **thresholds), maps, zoom


def write_files(
    out, stem, path, image, intensity, labels, maps, zoom, settings, seconds, made_by,
    formats=FORMATS, formats_there=(), mpp=None,
):  # fmt: skip
    """Write what is one image's alone, in the formats asked for.

    Returns:
        Its rows for the tables that all images share: a DataFrame for nuclei.csv and a dict for summary.csv, which says
        that the image is finished in these formats and in formats_there, those of an earlier run.
    """
    import pandas as pd

    kind = modality(image)
    table = pd.DataFrame(instances.measure(labels, image, maps, stained=kind == "tissue", mpp=mpp))
    if "calibration" in settings:
        features = instances.doubt_features(labels, maps, zoom)
        sure = instances.confidence(features, settings["calibration"]["weights"]).round(4)
        table.insert(table.columns.get_loc("mean_probability"), "confidence", sure)
    table.insert(0, "image", stem)
    if "masks" in formats:
        write_png(out / "masks" / f"{stem}.png", (labels > 0).astype(np.uint8) * 255)
    if "labels" in formats:
        write_labels(out / "labels", stem, labels)
    if "overlays" in formats:
        overlay = draw_overlay(image, intensity, labels)
        encoded(out / "overlays" / f"{stem}.jpg", ".jpg", overlay, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    exports.write(out, [name for name in formats if name not in FORMATS], exports.Nuclei(stem, path.name, labels, table, mpp))
    doubt = instances.image_doubt(maps)
    return table, {
        "image": stem,
        "file": path.name,
        "height_px": labels.shape[0],
        "width_px": labels.shape[1],
        "modality": kind,
        "nuclei": len(table),
        "median_diameter_px": round(float(table["diameter_px"].median()), 2) if len(table) else "",
        "zoom": round(zoom, 3),
        "doubt": round(doubt, 4),
        "unlike_training": int(doubt > settings["unlike"]["doubt_above"]) if "unlike" in settings else "",
        "nucleus_share": round(float((labels > 0).mean()), 4),
        "intensity_low": intensity[0],
        "intensity_high": intensity[1],
        "seconds": round(seconds, 3),
        "mpp": "" if mpp is None else mpp,
        "made_by": made_by,
        "formats": " ".join(dict.fromkeys([*formats_there, *formats])),
    }


def write_rows(out, table, summary, formats, formats_there):
    """Add what `write_files` returned to the tables; the row in summary.csv comes last and marks the image as finished."""
    import pandas as pd

    if "csv" in formats:
        append_table(out / "nuclei.csv", table)
    if formats_there:
        replace_row(out / "summary.csv", summary)
    else:
        append_table(out / "summary.csv", pd.DataFrame([summary]))


def write_results(*image, formats=FORMATS, formats_there=(), mpp=None):
    """`write_files` and `write_rows` of one image, with the arguments of `write_files`; the number of its nuclei."""
    table, summary = write_files(*image, formats=formats, formats_there=formats_there, mpp=mpp)
    write_rows(image[0], table, summary, formats, formats_there)
    return len(table)


def formats_of(path, is_slide, asked):
    """The formats of an image or slide, of those asked for (None: the default). Raises: ValueError where none is left."""
    if not is_slide:
        return list(asked or FORMATS)
    formats = [name for name in asked or slides.FORMATS_DEFAULT if name in slides.FORMATS]
    if not formats:
        raise ValueError(f"{path} is a slide, which is written as {', '.join(slides.FORMATS)}; got {', '.join(asked)}")
    if left := [name for name in asked or () if name not in formats]:
        print(f"{path} is a slide: no {', '.join(left)} of it (its labels are ometiff or omezarr)")
    return formats


def do_slide(
    args, out, stem, path, network, num_maps, thresholds, seen_diameter, zoom, geometry, settings, made_by, formats,
    formats_there, cluster=None,
):  # fmt: skip
    """Find the nuclei of a slide and write what is its alone, as `predict_image` and `write_files` do for an image.

    Returns:
        `slides.Found`, and its row of summary.csv, a dict; `write_slide_rows` takes both.

    Raises:
        ValueError: as `slides.open_slide` and `slides.find_nuclei`.
    """
    started = time.monotonic()
    slide = slides.open_slide(path, args.channel)
    for note in slide.notes:
        print(f"{stem}: {note}")
    mpp = slide.mpp if args.mpp is None else args.mpp
    if args.mpp and slide.mpp and max(args.mpp / slide.mpp, slide.mpp / args.mpp) > MPP_TIMES:
        print(f"{stem}: --mpp {args.mpp:g} is taken, although the file says {slide.mpp:g} µm per pixel")
    if zoom is None and mpp:
        zoom = float(np.clip(seen_diameter / (NUCLEUS_UM / mpp), *tiling.ZOOM_LIMITS))
    weights = settings["calibration"]["weights"] if "calibration" in settings else None
    search = None if cluster is None else cluster.searching(path, args.channel, weights, args.batch_size)
    found = slides.find_nuclei(
        slide, out, stem, network, num_maps, thresholds, seen_diameter, geometry, made_by, zoom=zoom, min_area=args.min_area,
        weights=weights, mpp=mpp, tile=args.tile, batch_size=args.batch_size, tissue_mask=not args.no_tissue_mask,
        channel=args.channel, search=search,
    ).gather()  # fmt: skip
    found.write(out, formats)
    if found.cut:
        print(f"{stem}: {found.cut} nuclei are larger than windows overlap; they may be cut, or there twice (--diameter?)")
    summary = {"image": stem, "file": path.name, **found.summary()}
    summary["unlike_training"] = int(summary["doubt"] > settings["unlike"]["doubt_above"]) if "unlike" in settings else ""
    summary |= {"seconds": round(time.monotonic() - started, 3), "made_by": made_by}
    summary["formats"] = " ".join(dict.fromkeys([*formats_there, *formats]))
    return found, {name: summary[name] for name in SUMMARY}


def write_slide_rows(out, found, summary, formats, formats_there):
    """`write_rows` of a slide, a part of its nuclei at a time; then what it was put together from is no longer needed."""
    if "csv" in formats:
        for table, _ in found.parts():
            append_table(out / "nuclei.csv", table)
    write_rows(out, None, summary, (), formats_there)
    slides.clear(out, found.stem)


# --- Many images at once --------------------------------------------------------------------------------------------


def in_order(work, items, workers=WORKERS, stop=lambda: None):
    """`work(item)` of each item on several threads, yielded in the order of the items; close it to begin no more of them.

    stop: called when it ends early, so that what is under way may end early, too.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:  # that it was closed is one, Ctrl-C another
            stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


class Room:
    """So many pixels that may be in work at once; whoever wants more has to wait until he is alone."""

    def __init__(self, pixels):
        self.free = self.size = pixels
        self.changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, pixels):
        """Wait for so much room, and have it within the `with` block."""
        pixels = min(pixels, self.size)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self.changed:
                self.free += pixels
                self.changed.notify_all()


def show_progress(done, total, started, nuclei):
    """One line that rewrites itself on a terminal; a line for every tenth of the work otherwise."""
    passed = time.monotonic() - started
    left = passed / done * (total - done)
    line = f"{done}/{total} images, {nuclei} nuclei, {passed:.0f} s, {left:.0f} s left"
    if sys.stdout.isatty():
        print(f"\r{line:<78}", end="\n" if done == total else "", flush=True)
    elif done == total or done * 10 // total > (done - 1) * 10 // total:
        print(line, flush=True)


def do_image(
    network, room, out, stem, path, formats, formats_there, settings, thresholds, made_by, min_area, zoom, tile, batch_size, mpp
):
    """One image from file to files; returns what `write_files` does, or the error where it could not be read."""
    num_maps, geometry = len(settings["architecture"]["heads"]), unet.geometry(settings["architecture"])
    seen_diameter = settings.get("seen_diameter_px", SEEN_DIAMETER_PX)
    with room.taken(declared_pixels(path)):
        began = time.monotonic()
        try:
            found = predict_image(
                path, network, num_maps, thresholds, min_area, seen_diameter, zoom, tile, batch_size, geometry
            )
        except (ValueError, MemoryError) as error:
            return error
        seconds = time.monotonic() - began
        return write_files(out, stem, path, *found, settings, seconds, made_by, formats, formats_there, mpp)


def predict_all(
    out, files, network, settings, thresholds, made_by, asked, there=None, min_area=None, zoom=None, tile=tiling.TILE_PX,
    batch_size=1, mpp=None, cluster=None,
):  # fmt: skip
    """Find the nuclei of many images and write them, several images at once, the rows of the tables in the order given.

    Args:
        files: {stem: path}.
        asked, there: {stem: formats} to be written, and written by an earlier run.
        network, settings, thresholds, min_area, zoom, tile, batch_size, mpp: as `predict_image` and `write_files`.
        cluster: whose workers do it, by networks of their own; None for the threads of this process.

    Returns:
        The number of nuclei, and for each image that could not be read a line that says why.
    """
    there, room = there or {}, Room(PIXELS_AT_ONCE)
    settled = (settings, thresholds, made_by, min_area, zoom, tile, batch_size, mpp)
    jobs = [(out, stem, path, asked[stem], there.get(stem, ()), *settled) for stem, path in files.items()]
    results = in_order(lambda job: do_image(network, room, *job), jobs) if cluster is None else cluster.do_images(jobs)
    started, nuclei, failures = time.monotonic(), 0, []
    with contextlib.closing(results):
        for done, ((stem, path), result) in enumerate(zip(files.items(), results, strict=True), start=1):
            if isinstance(result, Exception):
                failures.append(f"{path}: {result}" if str(path) not in str(result) else str(result))
                print(f"\nskipped: {failures[-1]}", file=sys.stderr)
            else:
                write_rows(out, *result, asked[stem], there.get(stem, ()))
                nuclei += len(result[0])
            show_progress(done, len(files), started, nuclei)
    return nuclei, failures


def predict_slides(args, out, files, network, thresholds, zoom, settings, made_by, asked, there, cluster=None):
    """Find the nuclei of slides and write them: one after the other, or several at once on a cluster.

    Returns:
        As `predict_all`.
    """
    num_maps, geometry = len(settings["architecture"]["heads"]), unet.geometry(settings["architecture"])
    seen_diameter = settings.get("seen_diameter_px", SEEN_DIAMETER_PX)

    def work(stem):
        try:
            return do_slide(
                args, out, stem, files[stem], network, num_maps, thresholds, seen_diameter, zoom, geometry, settings, made_by,
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


# --- Many machines at once ------------------------------------------------------------------------------------------
#
# By Dask: a scheduler, and workers that each open files themselves, hold one network, and write into the folder that all
# see. This process alone hands out the work and writes the tables, so that a worker may die at any moment: what it had not
# finished is done by another, and its files are whole or not there.


class Cluster:
    """The workers of a Dask cluster, doing images and windows of slides with one model.

    Args:
        scheduler: "tcp://HOST:PORT" of a running one; None starts one here with `workers` processes on this machine.
        model, engine, tta: as the flags; workers open the model file by its path.
        out: the folder of the results, which workers have to see, too.

    Raises:
        ValueError: Dask is not installed, no scheduler or worker answers, or a worker lacks something that it needs.
    """

    def __init__(self, scheduler, workers, model, engine, tta, out):
        exports.require(["distributed"], "--scheduler" if scheduler else "--workers")
        import distributed

        for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]:
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what concerns the user is said here
        for name, value in (("TF_FORCE_GPU_ALLOW_GROWTH", "true"), ("XLA_PYTHON_CLIENT_PREALLOCATE", "false")):
            os.environ.setdefault(name, value)  # several processes may share a GPU: none takes all of its memory
        digest = hashlib.sha256(Path(model).read_bytes()).hexdigest()
        self.model = (str(Path(model).absolute()), digest, engine, tta, program())
        self.out, self.stopped, self.retrying = Path(out).absolute(), threading.Event(), threading.Lock()
        with contextlib.ExitStack() as opened:
            address = scheduler or opened.enter_context(local_workers(workers)).scheduler_address
            try:
                self.client = opened.enter_context(distributed.Client(address, timeout=ANSWER_SECONDS, set_as_default=False))
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"no Dask scheduler answers at {address} ({first_line(error)}); start one by `dask scheduler` and give its "
                    "tcp:// address to --scheduler"
                ) from None
            try:
                self.client.wait_for_workers(workers or 1, timeout=WORKER_SECONDS)
            except TimeoutError:
                raise ValueError(
                    f"{address} has no workers; start some in the project's folder: dask worker {address} --nthreads 2 "
                    "--memory-limit 0" if scheduler else f"the {workers} processes did not start within {WORKER_SECONDS} s; "
                    "give fewer --workers"
                ) from None  # fmt: skip
            self.check()
            self.opened = opened.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.opened.close()

    def check(self):
        """See that every worker has this program, this model and this folder. Raises: ValueError, naming the workers."""
        import distributed

        root, told = str(Path(__file__).resolve().parent), (*self.model, self.out / LOCK)

        def look():  # sent as it is, since a worker that lacks this file could not find it by name
            import sys
            from pathlib import Path

            if Path(root).is_dir() and root not in sys.path:
                sys.path.insert(0, root)
            try:
                import predict

                return predict.lacks(*told)
            except (ImportError, AttributeError, TypeError) as error:
                return f"lacks the program ({error}): start it in the project's folder, with requirements.txt installed"

        class Finder(distributed.WorkerPlugin):  # for workers that come later; what they lack ends their first job
            name = "histology-segmentation"

            def setup(self, worker):
                look()

        self.client.register_plugin(Finder())
        said = {worker: line for worker, line in self.client.run(look).items() if line}
        if said:
            raise ValueError(
                f"{len(said)} workers cannot help: "
                + "; ".join(f"{worker} {line}" for worker, line in list(said.items())[:5])
                + (" ..." if len(said) > 5 else "")
            )

    @property
    def words(self):
        """Of the workers, for the user."""
        threads = self.client.nthreads()
        return f"{len(threads)} workers with {sum(threads.values())} threads at {self.client.scheduler.address}"

    def ask(self, what, *words):
        """What the scheduler answers. Raises: ConnectionError, whatever Dask runs into where it does not."""
        try:
            return what(*words)
        except Exception as error:
            raise ConnectionError(GONE) from error

    def submit(self, name, job):
        """Hand out a call of one of this file's functions: a future."""

        def call(packed):  # sent as it is, and the job as bytes: the scheduler looks into what it gets, but lacks this program
            import importlib
            import pickle

            name, job = pickle.loads(packed)
            return getattr(importlib.import_module("predict"), name)(*job)

        packed = pickle.dumps((name, job))
        return self.ask(lambda: self.client.submit(call, packed, pure=False))

    def ended(self, future):
        """Wait for the end of a job: the exception that it ended with, or None. Raises: ConnectionError."""
        import distributed

        said = time.monotonic()
        while not self.stopped.is_set():
            try:
                return future.exception(timeout=1)
            except TimeoutError:
                if time.monotonic() - said < SILENT_SECONDS:
                    continue
                said = time.monotonic()
                states = self.ask(self.client.run_on_scheduler, states_of_workers)
                if "running" not in states:
                    print(f"No worker takes work ({len(states)} are there; one that is paused lacks memory: --memory-limit 0). "
                          "Waiting for one", file=sys.stderr)  # fmt: skip
            except (CancelledError, distributed.comm.CommClosedError) as error:
                raise ConnectionError(GONE) from error
        raise ConnectionAbortedError("stopped; what is finished stays, and the same command goes on from there")

    def in_order(self, name, jobs):
        """`NAME(*job)` of this file for each job by the workers, yielded in their order: its result, or a ValueError or
        MemoryError where it could not be done. Any other error ends it all."""
        import distributed

        waiting, jobs = deque(), iter(jobs)  # of (future, job, whether no other of these jobs runs beside it)
        try:
            while True:
                if not (waiting and waiting[0][2]):
                    ahead = JOBS_AHEAD * max(1, sum(self.ask(self.client.nthreads).values()))
                    for job in itertools.islice(jobs, max(0, ahead - len(waiting))):
                        waiting.append((self.submit(name, job), job, False))
                if not waiting:
                    return
                future, job, alone = waiting[0]
                error = self.ended(future)
                if isinstance(error, distributed.KilledWorker) and not alone:
                    # Dask blames all that a dead worker had: only who is blamed alone, too, is to blame.
                    for other, _, _ in waiting:
                        self.ended(other)
                    with self.retrying:
                        waiting[0] = (self.submit(name, job), job, True)
                        self.ended(waiting[0][0])
                    continue
                waiting.popleft()
                if isinstance(error, distributed.KilledWorker):
                    error = ValueError(
                        f"worker after worker died over it, {error.last_worker.address} last; they may have too little memory"
                    )
                if error is None:
                    yield self.ask(future.result)
                elif isinstance(error, (ValueError, MemoryError)):
                    yield error
                else:
                    raise error
        finally:
            for future, _, _ in waiting:
                with contextlib.suppress(Exception):  # the scheduler may have gone
                    future.cancel()

    def do_images(self, jobs):
        """`do_image` of each job, without network and room, which workers have of their own."""
        jobs = ((self.model, self.out, stem, Path(path).absolute(), *more) for _, stem, path, *more in jobs)
        return self.in_order("do_image_there", jobs)

    def searching(self, path, channel, weights, batch_size):
        """The `search` of `slides.find_nuclei` for a slide."""

        def search(folder, units, thresholds):
            parts = [units[first : first + UNITS_TOGETHER] for first in range(0, len(units), UNITS_TOGETHER)]
            told = (self.model, Path(path).absolute(), channel, Path(folder).absolute(), thresholds, weights, batch_size)
            with contextlib.closing(self.in_order("do_units_there", ((*told, part) for part in parts))) as results:
                for part, counts in zip(parts, results, strict=True):
                    if isinstance(counts, Exception):
                        raise ValueError(f"windows {part[0].index} to {part[-1].index}: {counts}")
                    yield from zip(part, counts, strict=True)

        return search


def states_of_workers(dask_scheduler):
    """The states of a scheduler's workers, asked there; the argument has to have this name."""
    return [worker.status.name for worker in dask_scheduler.workers.values()]


def local_workers(number):
    """A Dask cluster of so many processes on this machine, which part its cores among them, and the GPUs that it may use."""
    import distributed

    cores, visible, options = unet.num_cores(), os.environ.get("CUDA_VISIBLE_DEVICES"), {}
    gpus = [str(k) for k in range(unet.num_gpus())] if visible is None else [name for name in visible.split(",") if name]
    for k in range(number):
        environment = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(max(1, cores // number)))
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[k % len(gpus)]
        settings = {"nthreads": THREADS_OF_WORKER, "env": environment, "memory_limit": 0, "silence_logs": logging.CRITICAL}
        options[k] = {"cls": distributed.Nanny, "options": settings}
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False}}
    return distributed.SpecCluster(workers=options, scheduler=scheduler, name="predict", silence_logs=False)


@functools.cache
def program():
    """A hash of the files of this program, as they are when a process first asks: no worker is to find nuclei by older ones."""
    digest = hashlib.sha256()
    for name in ("exports", "import_data", "instances", "predict", "slides", "tiling", "unet"):
        digest.update((Path(__file__).resolve().parent / f"{name}.py").read_bytes())
    return digest.hexdigest()


def lacks(model, digest, engine, tta, code, mark):
    """What the process of a worker lacks to help with: None, or a line that says it and the way out.

    Args:
        model, digest, engine, tta, code: of `Cluster`. mark: a file in the folder of the results.
    """
    if program() != code:
        return f"has another version of the program in {Path(__file__).parent}: give it this one, and start it again"
    if not Path(model).is_file() or hashlib.sha256(Path(model).read_bytes()).hexdigest() != digest:
        return f"does not see this model at {model}: put it where all machines see it by one path"
    if not Path(mark).is_file():
        return f"does not see {Path(mark).parent}: --out must be where all machines see it by one path"
    if engine != "auto" and (packages := unet.lacking(engine)):
        return f"lacks what --engine {engine} needs: python -m pip install {packages}"
    return None


def threads_here():
    """How many threads of this worker may call its network at the same time."""
    from distributed import get_worker

    try:
        return get_worker().state.nthreads
    except ValueError:  # it is none
        return 1


@functools.lru_cache(maxsize=1)
def network_there(path, digest, engine, tta, code):
    """The network of a worker, made once. Raises: OSError, which ends the run, since no image is to blame."""
    if program() != code:
        raise OSError(f"a worker in {Path(__file__).parent} has another version of the program: start it again with this one")
    try:
        if hashlib.sha256(Path(path).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{path} is not the model that this run began with; leave it as it is while a cluster works")
        network, _ = unet.engine(path, engine, callers=threads_here())
    except ValueError as error:
        raise OSError(f"a worker on {platform.node()}: {error}") from error
    return tiling.dihedral(network) if tta else network


@functools.lru_cache(maxsize=1)
def room_there():
    """The room of a worker."""
    return Room(PIXELS_AT_ONCE)


def network_of_worker(model):
    """`network_there`, by one thread after the other: the second finds what the first has made."""
    with MAKING:
        return network_there(*model)


def do_image_there(model, out, *job):
    """`do_image` in a worker."""
    return do_image(network_of_worker(model), room_there(), out, *job)


def do_units_there(model, path, channel, folder, thresholds, weights, batch_size, units):
    """`slides.search_units` in a worker; the number of nuclei of each unit."""
    network, setup = network_of_worker(model), slides.read_setup(folder)
    if setup is None:
        raise ValueError(f"{folder} has no setup.json yet, or no longer; run again to go on from what is finished")
    slide, mask = slides.open_slide(path, channel), np.load(folder / "mask.npy")
    return [n for _, n in slides.search_units(slide, folder, units, setup, mask, network, thresholds, weights, batch_size)]


def run(argv, held):
    """What `main` does. held: for the lock of the folder, which goes when `main` ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("inputs", nargs="*", default=[INPUT], metavar="INPUT", help=f"image files and folders (default {INPUT})")
    add("--model", default=None, metavar="FILE", help=f"(default {MODELS[0]}, or else {MODELS[1]})")
    add("--out", default=OUT, metavar="DIR", help=f"(default {OUT})")
    add("--tile", type=positive, default=tiling.TILE_PX, metavar="PX", help=f"side of a window (default {tiling.TILE_PX})")
    add("--batch-size", type=positive, default=1, metavar="N", help="windows in one call of the network (default 1)")
    add("--threshold", type=float, metavar="P", help="probability from which a pixel is nucleus (default: the model's)")
    add("--min-area", type=positive, metavar="PX", help="area below which an object is dropped (default: the model's)")
    add("--diameter", type=float, metavar="PX", help="median nucleus diameter in the images (default: estimated for each)")
    add("--engine", choices=("auto", *unet.ENGINES, *unet.COARSE_ENGINES), default="auto",
        help=f"what runs the network (default auto: of {', '.join(unet.ENGINES)} the first that is installed and agrees "
        "with Keras)")  # fmt: skip
    add("--tta", action="store_true", help="average over eight flips and turns, for eight times the work")
    formats = list(dict.fromkeys([*FORMATS, *exports.FORMATS]))
    add("--formats", type=exports.choice_of(formats), metavar="NAME,...",
        help=f"of {', '.join(formats)} (default {','.join(FORMATS)}; slides {','.join(slides.FORMATS_DEFAULT)})")  # fmt: skip
    add(
        "--mpp",
        type=exports.microns,
        metavar="UM",
        help=f"µm per pixel: results in µm, too, and nuclei of {NUCLEUS_UM:g} µm are expected unless --diameter is given",
    )
    add("--channel", metavar="NAME", help="of fluorescence slides, by name or number from 1 (default: one named like nuclei)")
    add("--no-tissue-mask", action="store_true", help="search all of a slide, empty glass, too")
    add("--overwrite", action="store_true", help="do finished images again, replacing their results")
    machines = parser.add_argument_group("a cluster", "by Dask: python -m pip install distributed")
    machines.add_argument("--scheduler", metavar="TCP://HOST:PORT", help="let the workers of this scheduler do it")
    machines.add_argument("--workers", type=positive, metavar="N", help="let so many processes of this machine do it, each "
                          "with a part of its cores and a GPU of its own, if there are any")  # fmt: skip
    args = parser.parse_args(argv)
    if args.threshold is not None and not 0 < args.threshold < 1:
        parser.error(f"--threshold is {args.threshold}; it must lie between 0 and 1")
    if args.scheduler and args.workers:
        parser.error("--scheduler brings workers of its own; leave out --workers")
    if args.diameter is not None and not args.diameter > 0:
        parser.error(f"--diameter is {args.diameter}; it must be above 0")

    out, files, model_path = Path(args.out), collect(args.inputs), find_model(args.model)
    settings = unet.read_settings(model_path)
    thresholds = {**instances.THRESHOLDS, **settings["thresholds"]}
    if args.threshold is not None:
        thresholds["nucleus_threshold"] = args.threshold
    seen_diameter = settings.get("seen_diameter_px", SEEN_DIAMETER_PX)
    diameter = args.diameter or (NUCLEUS_UM / args.mpp if args.mpp else None)
    zoom = float(np.clip(seen_diameter / diameter, *tiling.ZOOM_LIMITS)) if diameter else None
    large = {stem for stem, path in files.items() if slides.is_slide(path)}
    formats = {stem: formats_of(path, stem in large, args.formats) for stem, path in files.items()}
    exports.require_formats(dict.fromkeys(name for names in formats.values() for name in names))
    exports.require(["zarr"] if any("ometiff" in formats[stem] for stem in large) else [], "the format ometiff of slides")
    decisive = repr((sorted(thresholds.items()), args.min_area, zoom, args.tta, args.mpp))
    if args.channel or args.no_tissue_mask:
        decisive += repr((args.channel, args.no_tissue_mask))
    model_hash = hashlib.sha256(model_path.read_bytes() + decisive.encode()).hexdigest()[:12]
    made_by = f"{model_path.name} {model_hash}"
    # A tile too small ends here, before any work.
    tiling.cut(1, args.tile * 3, args.tile, **unet.geometry(settings["architecture"]))
    held.enter_context(only_run(out))
    there = finished_before(out, made_by, args.overwrite, files)
    # Formats still to be written. Doing an image again renews all that it had: none of it may stay behind.
    asked = {
        stem: list(dict.fromkeys([*there.get(stem, ()), *formats[stem]])) if args.overwrite
        else [name for name in formats[stem] if name not in there.get(stem, ())]
        for stem in files
    }  # fmt: skip
    todo = {stem: path for stem, path in files.items() if asked[stem]}
    if len(files) > len(todo):
        print(f"{len(files) - len(todo)} images are finished already (--overwrite does them again)")
    for stem in files.keys() - todo.keys():
        slides.clear(out, stem)  # the last step of a slide, which a kill may have kept from it
    if lacking := [stem for stem in todo if stem in there and not args.overwrite]:
        print(f"{len(lacking)} images are finished but for {', '.join(sorted({n for s in lacking for n in asked[s]}))}")
    if not todo:
        print(f"Nothing to do: all results lie in {out}")
        return 0

    cluster = None
    if args.scheduler or args.workers:
        cluster = held.enter_context(Cluster(args.scheduler, args.workers, model_path, args.engine, args.tta, out))
    images = {stem: path for stem, path in todo.items() if stem not in large}
    slide_files = {stem: path for stem, path in todo.items() if stem in large}

    def make_network(callers):
        network, device = unet.engine(model_path, args.engine, callers=callers)
        return tiling.dihedral(network) if args.tta else network, device

    network, of_slides, device = None, None, None
    if images and cluster is None:
        network, device = make_network(min(WORKERS, len(images)))
    if slide_files:  # also on a cluster: by it the scale of a slide is estimated here
        of_slides, device = make_network(1)
    print(f"{len(todo)} images with {model_path} on {cluster.words if cluster else device}")
    nuclei, failures = predict_all(
        out, images, network, settings, thresholds, made_by, asked, there, args.min_area, zoom, args.tile, args.batch_size,
        args.mpp, cluster,
    ) if images else (0, [])  # fmt: skip
    more, slides_failed = predict_slides(
        args, out, slide_files, of_slides, thresholds, zoom, settings, made_by, asked, there, cluster
    )
    nuclei, failures = nuclei + more, failures + slides_failed
    written = dict.fromkeys(name for stem in todo for name in asked[stem])
    print(f"{len(todo) - len(failures)} images, {nuclei} nuclei: {', '.join(written)} and summary.csv lie in {out}/")
    folders = dict.fromkeys(str(path.parent) for path in files.values())
    if not large:  # whose labels report.py would have to hold as a whole
        command = ["python", "report.py", str(out), "--images", *folders, "--model", str(model_path)]
        print("To look at them:", shlex.join(command))
    if failures:
        print(f"predict.py: {len(failures)} of {len(todo)} images could not be read and were skipped", file=sys.stderr)
        return 1
    return 0


@user_errors_in_one_line
def main(argv=None):
    with contextlib.ExitStack() as held:
        return run(argv, held)


if __name__ == "__main__":
    sys.exit(main())
