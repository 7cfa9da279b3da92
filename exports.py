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
import sys
import uuid
from pathlib import Path

import numpy as np

from nuclei.cli import PREDICTIONS_DIR, choice_of, microns, user_errors_in_one_line
from nuclei.files import named
from nuclei.formats.bioimageio import LICENCE, export_bioimageio
from nuclei.formats.onnx import export_onnx
from nuclei.formats.registry import FORMATS, Nuclei, require_formats, write_formats
from nuclei.images.labels import read_labels
from nuclei.images.modality import modality
from nuclei.images.pairs import find_images
from nuclei.images.reading import read_image
from nuclei.instances.measure import in_microns, measure
from nuclei.machine import require, set_up_backend
from nuclei.model_file import load_network, read_settings

FORMATS_DEFAULT = "geojson"
MODEL = "Saved_Model/trained_model.h5"


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
        table = pd.DataFrame(measure(labels, image, stained=stained))
        for name in ("mean_probability", "std_probability"):
            if measured is not None and name in measured:
                table[name] = measured[name].to_numpy()
    if mpp is not None:
        table = table.assign(**in_microns(table, mpp))
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
        write_formats(out, todo, Nuclei(stem, file_name, labels, table, pixel))
        written += len(todo)
        say(f"{stem}: {len(table)} nuclei as {', '.join(todo)}")
    return written, kept


def export_model(model_path, kinds, out=None, name=None, author=None, licence=LICENCE, overwrite=False, say=print):
    """Write a model file as STEM.onnx and STEM.bioimageio.zip, each run and compared with Keras before it takes its name.

    Args:
        model_path: as train.py writes it. kinds: of "onnx" and "bioimageio" (which holds the ONNX file).
        out: folder; the default is the model's own. overwrite: replace files that are there already.

    Returns: the paths.
    Raises: FileNotFoundError, ValueError: as `load_network`, `export_onnx` and `export_bioimageio`; files are there.
    """

    model_path = Path(model_path)
    settings = read_settings(model_path)
    out = model_path.parent if out is None else Path(out)
    paths = {kind: out / (model_path.stem + {"onnx": ".onnx", "bioimageio": ".bioimageio.zip"}[kind]) for kind in kinds}
    there = [path for path in paths.values() if path.exists()]
    if there and not overwrite:
        raise ValueError(f"{named(there)} is there already; give --overwrite to replace it, or --out another folder")
    require(("bioimageio.core",) if "bioimageio" in kinds else (), "the export to bioimage.io")
    set_up_backend()
    model, settings = load_network(model_path)
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
    add("predictions", nargs="?", default=None, metavar="PREDICTIONS", help=f"as predict.py writes (default {PREDICTIONS_DIR})")
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
    predictions, formats = args.predictions or PREDICTIONS_DIR, args.formats or [FORMATS_DEFAULT]
    written, kept = export(predictions, formats, args.out, args.images, args.mpp, args.overwrite)
    print(f"{written} files written to {args.out or predictions}/")
    if kept:
        print(f"{kept} files were there already and are kept as they are (--overwrite replaces them)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
