"""Take the nuclei to where you work - QuPath, ImageJ/Fiji, COCO tools, napari, pandas - and the model to where others do.

    python exports.py                                          # predictions/ -> predictions/geojson/STEM.geojson
    python exports.py predictions --formats geojson,imagej     # several formats at once
    python exports.py predictions --formats csv,parquet --mpp 0.25     # 0.25 µm per pixel: measurements in µm, too
    python exports.py --model-out onnx,bioimageio --model Saved_Model/pretrained.h5

| format      | file in the predictions folder | opens in |
| ----------- | ------------------------------ | -------- |
| geojson     | geojson/STEM.geojson           | QuPath: detections with name, colour, measurements and a stable UUID |
| geojson.zip | geojson/STEM.geojson.zip       | QuPath, a tenth of the size; geojson.gz: for programs that want gzip |
| imagej      | imagej/STEM.zip                | ImageJ and Fiji: the ROI manager (pip install roifile) |
| coco        | coco/STEM.json                 | COCO tools: pycocotools, CVAT, FiftyOne |
| ometiff     | ometiff/STEM.ome.tif           | napari, QuPath, Fiji: 32-bit ids, tiles, pyramid, pixel size |
| omezarr     | omezarr/STEM.zarr              | napari and other readers of OME-Zarr (pip install zarr) |
| csv         | csv/STEM.csv                   | a spreadsheet: some 40 measurements for each nucleus |
| parquet     | parquet/STEM.parquet           | pandas, polars, R, which read the folder as one table (pip install pyarrow) |

Outlines run along the edges of the pixels: the area inside is the number of pixels. What is written twice is equal to
the byte. Correct them where you work and put the file beside the image, as gt/STEM.geojson, .zip, .json or .tif: it is
truth that import_data.py checks and train.py learns from.
"""

import argparse
import contextlib
import getpass
import gzip
import importlib.util
import io
import json
import shutil
import sys
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import instances
from import_data import (
    RANGE_PERCENTILES,
    find_images,
    modality,
    named,
    read_image,
    read_stored,
    replacing,
    user_errors_in_one_line,
)

PREDICTIONS = "predictions"  # as predict.py writes it
FORMATS_DEFAULT = "geojson"
MODEL = "Saved_Model/trained_model.h5"
CLASS_NAME = "Nucleus"  # of the detections in QuPath, and of COCO's one category
CLASS_COLOUR = (255, 221, 0)  # RGB; far from the purples of tissue and the greys of fluorescence
NAMESPACE = uuid.UUID("5d0a3c1e-7d0f-5c55-9f4e-2f6a2f0f8d11")  # of the nuclei's UUIDs; another one would make others
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # of every member: the date of writing would make equal content unequal files
TILE_PX = 512  # of label pyramids: a multiple of 16, as TIFF wants, and a screenful
MAX_IMAGEJ_PX = 60535  # ImageJ's ROI file stores coordinates in 16 bits, from -5000 on
GEOJSON_MEASUREMENTS = (  # what is worth seeing in QuPath's table and colour maps; all of them would be a kilobyte a nucleus
    "area_px", "area_um2", "diameter_px", "diameter_um", "perimeter_px", "perimeter_um", "circularity", "solidity",
    "eccentricity", "mean_probability", "mean_intensity", "haematoxylin_od", "dab_od", "nearest_distance_px",
    "nearest_distance_um", "touches_border",
)  # fmt: skip
MODEL_TOLERANCE = 1e-3  # of a probability, between Keras and an exported model; measured: 1e-6
LICENCE = "MIT"  # of an exported model package, unless --licence says another


class Nuclei(NamedTuple):
    """The nuclei of one image, as the writers take them.

    stem: of the image file, whose whole name is file_name. labels: (H, W) integer, 0 background, 1...n.
    table: a DataFrame with one row for each nucleus by ascending id, columns as of `instances.measure`.
    mpp: µm per pixel, or None.
    """

    stem: str
    file_name: str
    labels: np.ndarray
    table: Any
    mpp: float | None = None


class Format(NamedTuple):
    """Where a format goes, and how: `write(path, nuclei)` to folder/STEM + suffix; package: to be installed for it."""

    folder: str
    suffix: str
    write: Callable
    package: str | None = None


# --- Outlines: QuPath -----------------------------------------------------------------------------------------------


def rows_of(table, names):
    """Each row of the table as a dict of the named columns that it has and whose value is a finite number."""
    names = [name for name in names if name in table]
    columns = [np.asarray(table[name], float) for name in names]
    for values in zip(*columns, strict=True) if columns else ({} for _ in range(len(table))):
        yield {name: round(float(value), 6) for name, value in zip(names, values, strict=True) if np.isfinite(value)}


def geojson_features(nuclei):
    """The nuclei of an image as GeoJSON Features, see `features`."""
    return features(nuclei.stem, instances.outlines(nuclei.labels), nuclei.table)


def features(stem, outlined, table):
    """GeoJSON Features that QuPath reads as detections, one at a time, of outlines and their rows in a table.

    The UUID follows from the stem and the outline: the same nucleus has the same in every export, and so has no other
    nucleus, as ids would have after a change of the model.
    """
    for (index, polygons), measurements in zip(outlined, rows_of(table, GEOJSON_MEASUREMENTS), strict=True):
        # From (row, column) to (x, y); GeoJSON closes its rings.
        coordinates = [[[*ring[:, ::-1].tolist(), ring[0, ::-1].tolist()] for ring in rings] for rings in polygons]
        one = len(coordinates) == 1
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(NAMESPACE, f"{stem} {coordinates}")),
            "geometry": {
                "type": "Polygon" if one else "MultiPolygon",
                "coordinates": coordinates[0] if one else coordinates,
            },
            "properties": {
                "objectType": "detection",
                "name": f"{CLASS_NAME} {index}",
                "classification": {"name": CLASS_NAME, "color": list(CLASS_COLOUR)},
                "measurements": measurements,
            },
        }


@contextlib.contextmanager
def text_file(path, member):
    """A text file to write to: gzip or zip (with this one member) where the suffix says so; no dates, no names inside."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(open(path, "wb"))
        if path.suffix == ".gz":
            raw = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0))
        elif path.suffix == ".zip":
            archive = stack.enter_context(zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED))
            information = zipfile.ZipInfo(member, ZIP_DATE)
            information.compress_type = zipfile.ZIP_DEFLATED
            raw = stack.enter_context(archive.open(information, "w", force_zip64=True))
        text = io.TextIOWrapper(raw, encoding="utf-8", newline="\n")
        yield text
        text.flush()
        text.detach()


def write_features(path, features, member="nuclei.geojson"):
    """Write Features (any iterable: they are taken one at a time, so that millions need no memory) as a collection."""
    with replacing(path) as temporary, text_file(temporary, member) as file:
        file.write('{"type":"FeatureCollection","features":[')
        for number, feature in enumerate(features):
            file.write(",\n" if number else "\n")
            file.write(json.dumps(feature, separators=(",", ":"), ensure_ascii=False))
        file.write("\n]}\n")


def write_geojson(path, nuclei):
    """Detections for QuPath; .gz and .zip are compressed."""
    write_features(path, geojson_features(nuclei), f"{nuclei.stem}.geojson")


# --- Outlines: ImageJ, COCO -----------------------------------------------------------------------------------------


def imagej_roi(polygons, name):
    """A nucleus as a `roifile.ImagejRoi`: a traced polygon, or a composite where it has holes or several pieces."""
    import roifile

    rings = [ring[:, ::-1] for rings in polygons for ring in rings]  # (x, y)
    if len(rings) == 1:
        roi = roifile.ImagejRoi.frompoints(rings[0], name=name)
        roi.roitype = roifile.ROI_TYPE.TRACED  # as the wand makes them: the line runs along the edges of pixels
        roi.options = roifile.ROI_OPTIONS.NONE
        return roi
    path = []
    for ring in rings:
        path += [0, *ring[0]]  # move to
        for point in ring[1:]:
            path += [1, *point]  # line to
        path.append(4)  # close
    roi = roifile.ImagejRoi()
    roi.roitype, roi.name = roifile.ROI_TYPE.RECT, name  # ImageJ's mark of a composite is a box with a path behind it
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    corners = np.concatenate(rings)
    (roi.left, roi.top), (roi.right, roi.bottom) = (ends.tolist() for ends in (corners.min(axis=0), corners.max(axis=0)))
    return roi


def write_imagej(path, nuclei):
    """A zip of ROIs for the ROI manager of ImageJ and Fiji."""
    if max(nuclei.labels.shape) > MAX_IMAGEJ_PX:
        raise ValueError(
            f"{path}: an image of {nuclei.labels.shape[0]} x {nuclei.labels.shape[1]} px; ImageJ's ROI file ends at "
            f"{MAX_IMAGEJ_PX} px: export it as geojson"
        )
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for index, polygons in instances.outlines(nuclei.labels):
            name = f"nucleus_{index:06d}"
            information = zipfile.ZipInfo(f"{name}.roi", ZIP_DATE)
            archive.writestr(information, imagej_roi(polygons, name).tobytes(), zipfile.ZIP_DEFLATED)


def pack_runs(mask):
    """COCO's run lengths of a (H, W) bool mask: down the columns, from background on."""
    down = mask.T.ravel()
    edges = np.flatnonzero(down[1:] != down[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [down.size]])).tolist()
    return [0, *lengths] if down[0] else lengths


def write_coco(path, nuclei):
    """COCO's JSON of instances for one image; `score` is the mean probability where there is one.

    Polygons, since people can correct these; run lengths where a nucleus has a hole, which COCO's polygons cannot have.
    """
    height, width = nuclei.labels.shape
    image = {"id": 1, "file_name": nuclei.file_name, "height": height, "width": width}
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        head = {"info": {"description": "nuclei"}, "images": [image], "categories": [{"id": 1, "name": CLASS_NAME}]}
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "annotations": [')
        scores = rows_of(nuclei.table, ("mean_probability",))
        for number, ((index, polygons), score) in enumerate(zip(instances.outlines(nuclei.labels), scores, strict=True)):
            corners = np.concatenate([rings[0] for rings in polygons])
            (top, left), (bottom, right) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
            mine = nuclei.labels[top:bottom, left:right] == index
            if all(len(rings) == 1 for rings in polygons):
                drawn = [rings[0][:, ::-1].ravel().tolist() for rings in polygons]
            else:
                whole = np.zeros((height, right - left), bool)
                whole[top:bottom] = mine
                runs = pack_runs(whole)
                runs[0] += left * height  # the columns before and behind
                rest = (width - right) * height
                drawn = {"size": [height, width], "counts": runs[:-1] + [runs[-1] + rest] if len(runs) % 2 else runs + [rest]}
            annotation = {
                "id": index,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "area": int(mine.sum()),
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": drawn,
                **({"score": score["mean_probability"]} if score else {}),
            }
            file.write((",\n" if number else "\n") + json.dumps(annotation, separators=(",", ":")))
        file.write("\n]}\n")


# --- Label images ---------------------------------------------------------------------------------------------------


def num_levels(shape):
    """Levels of a pyramid, each half the one before, the last of which fits into one tile."""
    levels = 1
    while max(shape) > TILE_PX << (levels - 1):
        levels += 1
    return levels


def tiles_of(labels):
    """The tiles of a label image, row by row, filled up with background: (TILE_PX, TILE_PX) uint32 each."""
    for top in range(0, labels.shape[0], TILE_PX):
        for left in range(0, labels.shape[1], TILE_PX):
            tile = np.zeros((TILE_PX, TILE_PX), np.uint32)
            part = labels[top : top + TILE_PX, left : left + TILE_PX]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def write_ometiff(path, nuclei):
    """A 32-bit OME-TIFF of ids in tiles, with a pyramid of every other pixel (ids cannot be averaged) and pixel size."""
    levels = [nuclei.labels[:: 1 << level, :: 1 << level] for level in range(num_levels(nuclei.labels.shape))]
    write_label_levels(path, nuclei.stem, levels, nuclei.mpp)


def write_label_levels(path, stem, levels, mpp):
    """As `write_ometiff`, of the levels of a pyramid: anything that slices like (h, w) arrays, read tile by tile."""
    import tifffile

    height, width = levels[0].shape
    metadata = {"axes": "YX", "UUID": f"urn:uuid:{uuid.uuid5(NAMESPACE, f'{stem} {height} {width}')}"}
    resolution = {}
    if mpp is not None:
        metadata.update(PhysicalSizeX=mpp, PhysicalSizeY=mpp, PhysicalSizeXUnit="µm", PhysicalSizeYUnit="µm")
        resolution = {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
    with replacing(path) as temporary:
        large = height * width * 4 > 1 << 31  # before compression: a classic TIFF ends at 4 GB
        with tifffile.TiffWriter(temporary, bigtiff=large, ome=True) as tiff:
            for number, level in enumerate(levels):
                tiff.write(
                    tiles_of(level),
                    shape=level.shape,
                    dtype=np.uint32,
                    tile=(TILE_PX, TILE_PX),
                    photometric="minisblack",
                    compression="zlib",
                    **({"subfiletype": 1} if number else {"subifds": len(levels) - 1, "metadata": metadata, **resolution}),
                )


def write_omezarr(path, nuclei):
    """OME-Zarr 0.4, the version that most programs read: a pyramid of ids, marked as labels."""
    with new_omezarr(path, nuclei.stem, nuclei.labels.shape, nuclei.mpp) as levels:
        for top in range(0, nuclei.labels.shape[0], TILE_PX):
            levels[0][top : top + TILE_PX] = nuclei.labels[top : top + TILE_PX].astype(np.uint32)
        fill_pyramid(levels)


@contextlib.contextmanager
def new_omezarr(path, stem, shape, mpp):
    """Make the OME-Zarr of `write_omezarr`, whole or not at all: yields the arrays of its levels, to be filled."""
    import zarr

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    scale = 1.0 if mpp is None else mpp
    unit = {} if mpp is None else {"unit": "micrometer"}
    try:
        group = zarr.open_group(temporary, mode="w", zarr_format=2)
        levels = [
            group.create_array(
                str(level), shape=tuple(-(-length >> level) for length in shape), chunks=(TILE_PX, TILE_PX), dtype="uint32",
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )
            for level in range(num_levels(shape))
        ]  # fmt: skip
        group.attrs["multiscales"] = [
            {
                "version": "0.4",
                "name": stem,
                "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
                "datasets": [
                    {
                        "path": str(level),
                        "coordinateTransformations": [{"type": "scale", "scale": [scale * (1 << level)] * 2}],
                    }
                    for level in range(len(levels))
                ],
            }
        ]
        group.attrs["image-label"] = {"version": "0.4"}
        yield levels
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def fill_pyramid(levels):
    """Fill each level but the first with every other pixel of the one before, in pieces that fit into any memory."""
    for larger, smaller in zip(levels, levels[1:], strict=False):
        for top in range(0, smaller.shape[0], TILE_PX):
            for left in range(0, smaller.shape[1], 8 * TILE_PX):
                place = (slice(top, top + TILE_PX), slice(left, left + 8 * TILE_PX))
                smaller[place] = larger[2 * top : 2 * (top + TILE_PX) : 2, 2 * left : 2 * (left + 8 * TILE_PX) : 2]


# --- Tables ---------------------------------------------------------------------------------------------------------


def write_csv(path, nuclei):
    """The table as CSV."""
    with replacing(path) as temporary:
        nuclei.table.to_csv(temporary, index=False, lineterminator="\n")


def write_parquet(path, nuclei):
    """The table as Parquet."""
    with replacing(path) as temporary:
        nuclei.table.to_parquet(temporary, index=False, engine="pyarrow")


FORMATS = {
    "geojson": Format("geojson", ".geojson", write_geojson),
    "geojson.zip": Format("geojson", ".geojson.zip", write_geojson),
    "geojson.gz": Format("geojson", ".geojson.gz", write_geojson),
    "imagej": Format("imagej", ".zip", write_imagej, "roifile"),
    "coco": Format("coco", ".json", write_coco),
    "ometiff": Format("ometiff", ".ome.tif", write_ometiff),
    "omezarr": Format("omezarr", ".zarr", write_omezarr, "zarr"),
    "csv": Format("csv", ".csv", write_csv),
    "parquet": Format("parquet", ".parquet", write_parquet, "pyarrow"),
}


# --- From a predictions folder --------------------------------------------------------------------------------------


def choice_of(choices):
    """argparse type: names among `choices`, with commas between them, as a list without repetition."""

    def parse(text):
        names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        wrong = [name for name in names if name not in choices]
        if wrong or not names:
            raise argparse.ArgumentTypeError(f"{', '.join(wrong) or 'nothing'} came; expected some of {', '.join(choices)}")
        return names

    return parse


def microns(text):
    """argparse type: µm per pixel."""
    value = float(text)
    if not 0.001 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} µm per pixel; expected 0.001 to 1000 (40x scanners have about 0.25)")
    return value


def is_installed(package):
    """Whether a package could be imported, found without importing it."""
    above = package.rpartition(".")[0]  # find_spec("a.b") itself fails without a
    return (not above or is_installed(above)) and importlib.util.find_spec(package) is not None


def require(packages, what):
    """Stop before any work where a package is missing. Raises: ValueError with the command that installs it."""
    missing = [package for package in packages if package and not is_installed(package)]
    if missing:
        names = " ".join(missing)
        raise ValueError(f"{what} needs {names}, which is not installed: python -m pip install {names}")


def require_formats(formats):
    """`require` for the names of formats; those of other files pass by."""
    for name in formats:
        require([FORMATS[name].package] if name in FORMATS else [], f"the format {name}")


def write(out, formats, nuclei):
    """Write one image's nuclei to out/FOLDER/STEM.SUFFIX in each of the formats, replacing what is there."""
    for name in formats:
        form = FORMATS[name]
        form.write(Path(out) / form.folder / f"{nuclei.stem}{form.suffix}", nuclei)


def read_labels(path):
    """A label image as it is stored: (H, W) int32. Raises: ValueError where it is none."""
    pixels = read_stored(path).pixels
    if pixels.ndim != 2 or pixels.dtype.kind not in "iu" or pixels.min(initial=0) < 0 or pixels.max(initial=0) >= 2**31:
        raise ValueError(f"{path} is no label image (shape {pixels.shape}, {pixels.dtype}); expected one id per nucleus")
    if pixels.max(initial=0) == 255 and len(np.unique(pixels)) == 2:
        raise ValueError(f"{path} is a mask of 0 and 255; expected one id per nucleus, as predict.py writes to labels/")
    return pixels.astype(np.int32)


def table_of(stem, labels, measured, image, mpp):
    """The measurements of one image: those of nuclei.csv, or taken anew where there is an image or no such table.

    Args:
        measured: rows of nuclei.csv for this image, or None. What only the network knows, the probability, is kept.
        image: (H, W, 3) or None.

    Raises:
        ValueError: the rows and the nuclei of the label image are not the same.
    """
    import pandas as pd  # here, since its import takes half a second that predict.py --help would wait for

    ids = np.unique(labels[labels > 0])
    if measured is not None and not np.array_equal(measured["id"], ids):
        raise ValueError(
            f"labels/{stem} has {len(ids)} nuclei and nuclei.csv {len(measured)} rows for it, or other ids; were the labels "
            "edited? Export them from a folder of their own, without nuclei.csv"
        )
    if measured is not None and image is None:
        table = measured.drop(columns="image")
    else:
        stained = image is not None and modality(image) == "tissue"
        table = pd.DataFrame(instances.measure(labels, image, stained=stained))
        for name in ("mean_probability", "std_probability"):
            if measured is not None and name in measured:
                table[name] = measured[name].to_numpy()
    if mpp is not None:
        table = table.assign(**instances.in_microns(table, mpp))
    table.insert(0, "image", stem)
    return table


def export(predictions, formats, out=None, images=None, mpp=None, overwrite=False, say=print):
    """Bring a folder of predictions, or of label images alone, into other formats.

    Args:
        predictions: as predict.py writes it; a folder without labels/ is taken as label images.
        formats: names of FORMATS.
        out: the default is `predictions`.
        images: folder of the images, to measure anew; None takes the measurements of nuclei.csv.
        mpp: µm per pixel; None takes what summary.csv says of each image, if anything.
        overwrite: replace files that are there already; without it they are kept, since they may have been corrected.

    Returns:
        (files written, files kept).

    Raises:
        FileNotFoundError, ValueError: nothing to export, a package is missing, files that do not fit together.
    """
    import pandas as pd

    require_formats(formats)
    predictions, out = Path(predictions), Path(predictions if out is None else out)
    folder = predictions / "labels" if (predictions / "labels").is_dir() else predictions
    files = find_images(folder)
    pictures = find_images(images) if images is not None else {}
    if lacking := [stem for stem in files if images is not None and stem not in pictures]:
        raise ValueError(f"{images} lacks the images of {len(lacking)} label images: {named(lacking)}")
    measured, names, sizes = {}, {}, {}
    if (predictions / "nuclei.csv").is_file():
        everything = pd.read_csv(predictions / "nuclei.csv", dtype={"image": str}, keep_default_na=True)
        empty = everything.iloc[:0]
        measured = {stem: rows.reset_index(drop=True) for stem, rows in everything.groupby("image", sort=False)}
        measured = {stem: measured.get(stem, empty) for stem in files}
    if (predictions / "summary.csv").is_file():
        summary = pd.read_csv(predictions / "summary.csv", dtype=str, keep_default_na=False)
        names = dict(zip(summary["image"], summary["file"], strict=True))
        if "mpp" in summary:
            sizes = {stem: float(size) for stem, size in zip(summary["image"], summary["mpp"], strict=True) if size}
    written = kept = 0
    for stem, path in files.items():
        there = {name: (out / FORMATS[name].folder / f"{stem}{FORMATS[name].suffix}").exists() for name in formats}
        todo = [name for name in formats if overwrite or not there[name]]
        kept += len(formats) - len(todo)
        if not todo:
            continue
        labels = read_labels(path)
        image = read_image(pictures[stem]) if stem in pictures else None
        if image is not None and image.shape[:2] != labels.shape:
            raise ValueError(f"{pictures[stem]} has {image.shape[:2]} px and {path} {labels.shape}; expected equal sizes")
        pixel = sizes.get(stem) if mpp is None else mpp
        table = table_of(stem, labels, measured.get(stem), image, pixel)
        file_name = pictures[stem].name if stem in pictures else names.get(stem, f"{stem}.png")
        write(out, todo, Nuclei(stem, file_name, labels, table, pixel))
        written += len(todo)
        say(f"{stem}: {len(table)} nuclei as {', '.join(todo)}")
    return written, kept


# --- The model ------------------------------------------------------------------------------------------------------


def geometry_of(settings):
    """Of a model's settings: pixels that sizes must be a multiple of, and how far the network sees."""
    import unet

    architecture = settings["architecture"]
    shape = {name: architecture[name] for name in ("depth", "stem_stride") if name in architecture}
    return unet.size_multiple(**shape), unet.receptive_radius(**shape)


def check_same(what, expected, came):
    """Compare an exported model's maps with Keras's: the largest difference. Raises: ValueError where it is too large."""
    difference = float(np.abs(np.asarray(expected, float) - np.asarray(came, float)).max())
    if not difference <= MODEL_TOLERANCE:
        raise ValueError(f"{what} differs from Keras by {difference:.2g}, more than {MODEL_TOLERANCE}; nothing was written")
    return difference


def export_onnx(model, settings, path):
    """Write the network as ONNX, (batch, height, width, 3) -> (batch, height, width, maps), run it and compare it.

    Returns: the largest difference from Keras, on two sizes and batches.
    Raises: ValueError where a package is missing, Keras's backend cannot export, or the two differ.
    """
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(f"Keras runs on {backend}; ONNX is exported from TensorFlow: set KERAS_BACKEND=tensorflow")
    require(("tf2onnx", "onnx", "onnxruntime"), "the export to ONNX")
    import onnx
    import onnxruntime

    multiple, _ = geometry_of(settings)
    channels = model.inputs[0].shape[-1]
    random = np.random.default_rng(0)
    inputs = [random.random((1, 2 * multiple, 3 * multiple, channels), np.float32)]
    inputs.append(random.random((2, 4 * multiple, 2 * multiple, channels), np.float32))
    expected = [model.predict_on_batch(batch) for batch in inputs]  # a model that was never called is not exported
    with replacing(path) as temporary:
        model.export(str(temporary), format="onnx", verbose=False)
        written = onnx.load(str(temporary))
        # Names of the axes and of the output instead of the converter's "unk__861" and "Identity:0".
        graph = written.graph
        produced = graph.output[0].name
        for node in graph.node:
            node.output[:] = ["maps" if name == produced else name for name in node.output]
            node.input[:] = ["maps" if name == produced else name for name in node.input]
        graph.output[0].name = "maps"
        for tensor in (graph.input[0], graph.output[0]):
            for axis, name in zip(tensor.type.tensor_type.shape.dim, ("batch", "height", "width"), strict=False):
                axis.dim_param = name
        onnx.checker.check_model(written)
        onnx.save(written, str(temporary))
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return max(
            check_same("the ONNX file", maps, session.run(["maps"], {name: batch})[0])
            for batch, maps in zip(inputs, expected, strict=True)
        )


def example_image(side, seed=0):
    """A picture of bright blobs on a dark ground, as grey levels in (side, side, 3) float32: the package's test input."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).random((side, side, 3))
    smooth = ndimage.gaussian_filter(noise, (4, 4, 0))
    return np.round(255 * np.clip((smooth - 0.5) * 8 + 0.3, 0, 1)).astype(np.float32)


def scaled_by_percentiles(image):
    """What the package's preprocessing does, in float64: RANGE_PERCENTILES of all values to 0 and 1, clipped."""
    low, high = np.percentile(image.astype(np.float64), RANGE_PERCENTILES)
    return np.clip((image - low) / (high - low + 1e-6), 0, 1).astype(np.float32)


def package_text(settings, name):
    """The README inside the package: what goes in, what comes out, how nuclei follow, and how good it is."""
    scores = settings.get("scores", {}).get("validation", {}).get("all")
    thresholds = {**instances.THRESHOLDS, **settings.get("thresholds", {})}
    diameter = settings.get("nucleus_diameter_px", {}).get("median")
    heads = settings["architecture"]["heads"]
    of_size = "" if diameter is None else f"; nuclei of about {diameter} px in diameter"
    return f"""# {name}

A U-Net that finds nuclei in histology and fluorescence images. Input: RGB grey levels of any depth; grey images as three
equal channels{of_size}. Output: {", ".join(heads)}, each from 0 to 1.

## From maps to nuclei

Pixels whose nucleus probability is above {thresholds["nucleus_threshold"]} are foreground. Where there is a distance map
(the depth inside a nucleus), blur it with sigma {thresholds["smoothing_px"]} px, take its connected patches above
{thresholds["marker_threshold"]} as seeds and grow them over the foreground by watershed. Drop nuclei below
{thresholds["min_area_px"]} px and those with a mean probability below {thresholds["min_probability"]}.

## Validation

Compare separated nuclei with hand-drawn ones on images that the training has not seen: the share of nuclei matched at an
overlap (IoU) of 0.5 and, for the pixels, the Dice coefficient.
{"No scores are stored with this model." if scores is None else f"Stored with the model: {json.dumps(scores)}."}
"""


def export_bioimageio(model, settings, onnx_path, path, name, author, licence):
    """Pack the ONNX file as a bioimage.io model (zip), validate it by bioimageio.spec, run it by bioimageio.core and
    compare the maps with Keras's: whole, and cut into blocks by the package's own halo.

    Args:
        onnx_path: as `export_onnx` writes it for the same model.
        name: of the package; author: who made it; licence: an SPDX name.

    Returns: the largest difference from Keras.
    Raises: ValueError where a package is missing, the description is not valid, or the maps differ.
    """
    require(("bioimageio.core",), "the export to bioimage.io")
    import onnx
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import create_sample_for_model
    from bioimageio.spec import InvalidDescr, load_description, save_bioimageio_package
    from bioimageio.spec.model import v0_5 as spec

    multiple, radius = geometry_of(settings)
    halo = -(-radius // multiple) * multiple  # a multiple, so that pooling meets the same pixels in every block
    smallest = 2 * halo + multiple
    image = example_image(smallest)[None]
    maps = model.predict_on_batch(scaled_by_percentiles(image))
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(replacing(path))
        folder = temporary.with_suffix("")
        folder.mkdir()
        stack.callback(shutil.rmtree, folder)
        np.save(folder / "test_input.npy", image)
        np.save(folder / "test_output.npy", maps)
        shutil.copyfile(onnx_path, folder / "weights.onnx")
        (folder / "README.md").write_text(package_text(settings, name), encoding="utf-8")

        def file(member):
            return spec.FileDescr(source=folder / member)

        sides = {"size": spec.ParameterizedSize(min=smallest, step=multiple)}
        heads = [spec.Identifier(head) for head in settings["architecture"]["heads"]]
        description = spec.ModelDescr(
            name=name,
            description="U-Net for nuclei in histology and fluorescence images: nucleus probability and depth inside a nucleus",
            authors=[spec.Author(name=author)],
            cite=[
                spec.CiteEntry(
                    text="Ronneberger, Fischer, Brox 2015: U-Net: Convolutional Networks for Biomedical Image Segmentation",
                    doi=spec.Doi("10.1007/978-3-319-24574-4_28"),
                )
            ],
            license=spec.LicenseId(licence),
            documentation=file("README.md"),
            tags=["nuclei", "segmentation", "histology", "fluorescence-light-microscopy", "unet", "2d"],
            inputs=[
                spec.InputTensorDescr(
                    id=spec.TensorId("image"),
                    axes=[
                        spec.BatchAxis(),
                        spec.SpaceInputAxis(id=spec.AxisId("y"), **sides),
                        spec.SpaceInputAxis(id=spec.AxisId("x"), **sides),
                        spec.ChannelAxis(channel_names=[spec.Identifier(name) for name in ("red", "green", "blue")]),
                    ],
                    test_tensor=file("test_input.npy"),
                    data=spec.IntervalOrRatioDataDescr(type="float32"),
                    preprocessing=[
                        spec.ScaleRangeDescr(
                            kwargs=spec.ScaleRangeKwargs(
                                axes=[spec.AxisId(axis) for axis in ("y", "x", "channel")],
                                min_percentile=RANGE_PERCENTILES[0],
                                max_percentile=RANGE_PERCENTILES[1],
                            )
                        ),
                        spec.ClipDescr(kwargs=spec.ClipKwargs(min=0.0, max=1.0)),
                    ],
                )
            ],
            outputs=[
                spec.OutputTensorDescr(
                    id=spec.TensorId("maps"),
                    axes=[
                        spec.BatchAxis(),
                        *(
                            spec.SpaceOutputAxisWithHalo(
                                id=spec.AxisId(axis),
                                size=spec.SizeReference(tensor_id=spec.TensorId("image"), axis_id=spec.AxisId(axis)),
                                halo=halo,
                            )
                            for axis in "yx"
                        ),
                        spec.ChannelAxis(channel_names=heads),
                    ],
                    test_tensor=file("test_output.npy"),
                    data=spec.IntervalOrRatioDataDescr(type="float32"),
                )
            ],
            weights=spec.WeightsDescr(
                onnx=spec.OnnxWeightsDescr(
                    source=folder / "weights.onnx",
                    opset_version=max(entry.version for entry in onnx.load(onnx_path).opset_import),
                )
            ),
        )
        save_bioimageio_package(description, output_path=temporary)
        loaded = load_description(temporary, perform_io_checks=True)
        if isinstance(loaded, InvalidDescr):
            raise ValueError(f"{path}: bioimageio.spec does not accept the package ({loaded.validation_summary.status})")
        wide = example_image(3 * halo + multiple, seed=1)[None]
        block = {"batch": 1, "y": 3 * halo, "x": 3 * halo, "channel": 3}
        with create_prediction_pipeline(loaded) as pipeline:
            whole = pipeline.predict_sample_without_blocking(
                create_sample_for_model(loaded, inputs={"image": image}), skip_input_padding=True, skip_output_cropping=True
            )
            cut = pipeline.predict_sample_with_fixed_blocking(
                create_sample_for_model(loaded, inputs={"image": wide}), input_block_shape={"image": block}
            )
        whole, cut = (sample.members["maps"].data.to_numpy() for sample in (whole, cut))
        difference = check_same("the bioimage.io package", maps, whole)
        # In blocks that overlap by the halo it must come out the same, but for the rim: there blocks are filled up by
        # reflection, whereas the network itself sees zeros beyond the image.
        inner = (slice(None), slice(halo, -halo), slice(halo, -halo))
        maps = model.predict_on_batch(scaled_by_percentiles(wide))
        return max(difference, check_same("the bioimage.io package in blocks", maps[inner], cut[inner]))


def export_model(model_path, kinds, out=None, name=None, author=None, licence=LICENCE, overwrite=False, say=print):
    """Write a model file as STEM.onnx and STEM.bioimageio.zip, each run and compared with Keras before it takes its name.

    Args:
        model_path: as train.py writes it. kinds: of "onnx" and "bioimageio" (which holds the ONNX file).
        out: folder; the default is the model's own. overwrite: replace files that are there already.

    Returns: the paths.
    Raises: FileNotFoundError, ValueError: as `unet.load_model`, `export_onnx` and `export_bioimageio`; files are there.
    """
    import unet

    model_path = Path(model_path)
    settings = unet.read_settings(model_path)
    out = model_path.parent if out is None else Path(out)
    paths = {kind: out / (model_path.stem + {"onnx": ".onnx", "bioimageio": ".bioimageio.zip"}[kind]) for kind in kinds}
    there = [path for path in paths.values() if path.exists()]
    if there and not overwrite:
        raise ValueError(f"{named(there)} is there already; give --overwrite to replace it, or --out another folder")
    require(("bioimageio.core",) if "bioimageio" in kinds else (), "the export to bioimage.io")
    unet.set_up_backend()
    model, settings = unet.load_model(model_path)
    with contextlib.ExitStack() as stack:
        onnx_path = paths.get("onnx", out / f".{model_path.stem}.{uuid.uuid4().hex[:8]}.onnx")
        if "onnx" not in paths:
            stack.callback(onnx_path.unlink, missing_ok=True)
        difference = export_onnx(model, settings, onnx_path)
        if "onnx" in paths:
            say(f"{onnx_path}: run by onnxruntime, differs from Keras by {difference:.1g} at most")
        if "bioimageio" in paths:
            name = name or f"nuclei {model_path.stem}".replace(".", "_")
            difference = export_bioimageio(
                model, settings, onnx_path, paths["bioimageio"], name, author or getpass.getuser(), licence
            )
            say(f"{paths['bioimageio']}: valid, run by bioimageio.core, differs from Keras by {difference:.1g} at most")
    return list(paths.values())


@user_errors_in_one_line
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("predictions", nargs="?", default=None, metavar="PREDICTIONS", help=f"as predict.py writes (default {PREDICTIONS})")
    add("--formats", type=choice_of(FORMATS), metavar="NAME,...", help=f"see above (default {FORMATS_DEFAULT})")
    add("--out", metavar="DIR", help="(default: PREDICTIONS itself; for a model its own folder)")
    add("--images", metavar="DIR", help="folder of the images, to measure anew (default: take nuclei.csv as it is)")
    add("--mpp", type=microns, metavar="UM", help="µm per pixel (default: what predict.py was told, if anything)")
    add("--overwrite", action="store_true", help="replace files that are there already; without it they are kept")
    add("--model-out", type=choice_of(("onnx", "bioimageio")), metavar="NAME,...", help="export a model: onnx, bioimageio")
    add("--model", default=MODEL, metavar="FILE", help=f"for --model-out (default {MODEL})")
    add("--name", help="of the bioimage.io package (default: from the file name)")
    add("--author", help="of the bioimage.io package (default: your login)")
    add("--licence", default=LICENCE, metavar="SPDX", help=f"of the bioimage.io package (default {LICENCE})")
    args = parser.parse_args(argv)
    if args.model_out:
        if args.predictions or args.formats or args.images or args.mpp:
            parser.error("--model-out exports a model; nuclei are exported by another call")
        export_model(args.model, args.model_out, args.out, args.name, args.author, args.licence, args.overwrite)
        return 0
    predictions, formats = args.predictions or PREDICTIONS, args.formats or [FORMATS_DEFAULT]
    written, kept = export(predictions, formats, args.out, args.images, args.mpp, args.overwrite)
    print(f"{written} files written to {args.out or predictions}/")
    if kept:
        print(f"{kept} files were there already and are kept as they are (--overwrite replaces them)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
