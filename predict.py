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

A second run goes on where the first one was stopped and skips what is finished; a format that an image lacks is added. A
file that cannot be read is named and skipped; the exit status is then 1.
"""

import argparse
import contextlib
import csv
import hashlib
import io
import os
import shlex
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
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
    declared_pixels,
    find_images,
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
    encoded(path, ".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 3])


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


def write_slide(
    args, out, stem, path, network, num_maps, thresholds, seen_diameter, zoom, geometry, settings, made_by, formats,
    formats_there,
):  # fmt: skip
    """Find the nuclei of a slide and write them, as predict_image and write_results do for an image; returns their number.

    Raises: ValueError as `slides.open_slide` and `slides.find_nuclei`.
    """
    import pandas as pd

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
    found = slides.find_nuclei(
        slide, out, stem, network, num_maps, thresholds, seen_diameter, geometry, made_by, zoom=zoom, min_area=args.min_area,
        weights=weights, mpp=mpp, tile=args.tile, batch_size=args.batch_size, tissue_mask=not args.no_tissue_mask,
        channel=args.channel,
    ).gather()  # fmt: skip
    found.write(out, formats)
    if "csv" in formats:
        for table, _ in found.parts():
            append_table(out / "nuclei.csv", table)
    if found.cut:
        print(f"{stem}: {found.cut} nuclei are larger than windows overlap; they may be cut, or there twice (--diameter?)")
    summary = {"image": stem, "file": path.name, **found.summary()}
    summary["unlike_training"] = int(summary["doubt"] > settings["unlike"]["doubt_above"]) if "unlike" in settings else ""
    summary |= {"seconds": round(time.monotonic() - started, 3), "made_by": made_by}
    summary["formats"] = " ".join(dict.fromkeys([*formats_there, *formats]))
    summary = {name: summary[name] for name in SUMMARY}
    if formats_there:
        replace_row(out / "summary.csv", summary)
    else:
        append_table(out / "summary.csv", pd.DataFrame([summary]))
    slides.clear(out, stem)
    return summary["nuclei"]


# --- Many images at once --------------------------------------------------------------------------------------------


def in_order(work, items, workers=WORKERS):
    """`work(item)` of each item on several threads, yielded in the order of the items; close it to begin no more of them."""
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
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


def one_at_a_time(network):
    """The network, called by one thread after the other: each call has all cores already."""
    lock = threading.Lock()

    def locked(batch):
        with lock:
            return network(batch)

    return locked


def show_progress(done, total, started, nuclei):
    """One line that rewrites itself on a terminal; a line for every tenth of the work otherwise."""
    passed = time.monotonic() - started
    left = passed / done * (total - done)
    line = f"{done}/{total} images, {nuclei} nuclei, {passed:.0f} s, {left:.0f} s left"
    if sys.stdout.isatty():
        print(f"\r{line:<78}", end="\n" if done == total else "", flush=True)
    elif done == total or done * 10 // total > (done - 1) * 10 // total:
        print(line, flush=True)


def predict_all(
    out, files, network, settings, thresholds, made_by, asked, there=None, min_area=None, zoom=None, tile=tiling.TILE_PX,
    batch_size=1, mpp=None,
):  # fmt: skip
    """Find the nuclei of many images and write them, several images at once, the rows of the tables in the order given.

    Args:
        files: {stem: path}.
        asked, there: {stem: formats} to be written, and written by an earlier run.
        network, settings, thresholds, min_area, zoom, tile, batch_size, mpp: as `predict_image` and `write_files`.

    Returns:
        The number of nuclei, and for each image that could not be read a line that says why.
    """
    room, there = Room(PIXELS_AT_ONCE), there or {}
    num_maps, geometry = len(settings["architecture"]["heads"]), unet.geometry(settings["architecture"])
    seen_diameter = settings.get("seen_diameter_px", SEEN_DIAMETER_PX)

    def work(stem):
        path = files[stem]
        with room.taken(declared_pixels(path)):
            began = time.monotonic()
            try:
                found = predict_image(
                    path, network, num_maps, thresholds, min_area, seen_diameter, zoom, tile, batch_size, geometry
                )
            except (ValueError, MemoryError) as error:
                return error
            seconds = time.monotonic() - began
            return write_files(out, stem, path, *found, settings, seconds, made_by, asked[stem], there.get(stem, ()), mpp)

    started, nuclei, failures = time.monotonic(), 0, []
    with contextlib.closing(in_order(work, files)) as results:
        for done, ((stem, path), result) in enumerate(zip(files.items(), results, strict=True), start=1):
            if isinstance(result, Exception):
                failures.append(f"{path}: {result}" if str(path) not in str(result) else str(result))
                print(f"\nskipped: {failures[-1]}", file=sys.stderr)
            else:
                write_rows(out, *result, asked[stem], there.get(stem, ()))
                nuclei += len(result[0])
            show_progress(done, len(files), started, nuclei)
    return nuclei, failures


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
    add("--engine", choices=("auto", *unet.ENGINES), default="auto",
        help="what runs the network (default auto: the fastest that is installed and agrees with Keras)")  # fmt: skip
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
    args = parser.parse_args(argv)
    if args.threshold is not None and not 0 < args.threshold < 1:
        parser.error(f"--threshold is {args.threshold}; it must lie between 0 and 1")
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
    num_maps, geometry = len(settings["architecture"]["heads"]), unet.geometry(settings["architecture"])
    tiling.cut(1, args.tile * 3, args.tile, **geometry)  # a tile too small ends here, before any work
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

    network, device = unet.engine(model_path, args.engine)
    network = one_at_a_time(network)
    network = tiling.dihedral(network) if args.tta else network
    print(f"{len(todo)} images with {model_path} on {device}")
    images = {stem: path for stem, path in todo.items() if stem not in large}
    nuclei, failures = predict_all(
        out, images, network, settings, thresholds, made_by, asked, there, args.min_area, zoom, args.tile, args.batch_size,
        args.mpp,
    ) if images else (0, [])  # fmt: skip
    for stem in [stem for stem in todo if stem in large]:
        try:
            nuclei += write_slide(
                args, out, stem, todo[stem], network, num_maps, thresholds, seen_diameter, zoom, geometry, settings, made_by,
                asked[stem], there.get(stem, ()),
            )  # fmt: skip
        except (ValueError, MemoryError) as error:
            failures.append(f"{todo[stem]}: {error}" if str(todo[stem]) not in str(error) else str(error))
            print(f"\nskipped: {failures[-1]}", file=sys.stderr)
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
