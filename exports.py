"""Take the nuclei to the program that you work with, and the model to other programs.

    python exports.py                                           # predictions/ as GeoJSON for QuPath
    python exports.py predictions --formats geojson,imagej      # several formats at once
    python exports.py --editable --out corrected                # for QuPath's brush: docs/qupath.md
    python exports.py --formats csv,parquet --mpp 0.25          # 0.25 µm per pixel: in µm, too
    python exports.py --model-out onnx,bioimageio               # the model, or --model FILE

| format      | file in the folder       | opens in |
| ----------- | ------------------------ | -------- |
| geojson     | geojson/STEM.geojson     | QuPath: objects with name, colour, measurements |
| geojson.zip | geojson/STEM.geojson.zip | QuPath, a tenth of the size |
| geojson.gz  | geojson/STEM.geojson.gz  | programs that want gzip |
| imagej      | imagej/STEM.zip          | ImageJ, Fiji: the ROI manager (pip install roifile) |
| coco        | coco/STEM.json           | pycocotools, CVAT, FiftyOne |
| ometiff     | ometiff/STEM.ome.tif     | napari, QuPath, Fiji: 32-bit ids, pyramid, pixel size |
| omezarr     | omezarr/STEM.zarr        | napari and other readers of OME-Zarr (pip install zarr) |
| csv         | csv/STEM.csv             | a spreadsheet: some 40 measurements for each nucleus |
| parquet     | parquet/STEM.parquet     | pandas, polars, R: one table (pip install pyarrow) |

Outlines follow the edges of the pixels: the area inside is the number of pixels. Two exports of the
same nuclei are equal, byte by byte. You can correct a file in your program and put it beside the
image as ground truth (gt/STEM.geojson, .zip, .json or .ome.tif): import_data.py checks it, train.py
learns from it.
"""

from nuclei.stopping import stop_while_importing

if __name__ == "__main__":
    stop_while_importing()

import contextlib
import getpass
import os
import sys
from pathlib import Path

from nuclei.cli import (
    MODEL_HELP,
    PREDICTIONS_DIR,
    add_quiet_flag,
    choice_of,
    command_line,
    microns,
    user_errors_in_one_line,
)
from nuclei.files import NAME_REFUSED, is_fault_of_name, named, plural, unreadable
from nuclei.formats.bioimageio import export_bioimageio
from nuclei.formats.bioimageio_spec import LICENCE, Credits, name_of_package, require_credits
from nuclei.formats.onnx import export_onnx
from nuclei.formats.predictions import load_nuclei, open_predictions
from nuclei.formats.registry import FORMATS, has_geojson, require_formats, write_formats
from nuclei.leftovers import temporary_name, writing_into
from nuclei.machine import require
from nuclei.model_file import MODELS, find_model, load_network, read_settings
from nuclei.progress import Progress, quietly
from nuclei.written import recording

FORMATS_DEFAULT = "geojson"
MODEL_SUFFIXES = {"onnx": ".onnx", "bioimageio": ".bioimageio.zip"}


def export(predictions, names, out=None, images=None, mpp=None, overwrite=False, editable=False):
    """Write the nuclei of a folder of predictions in other formats.

    Args:
        predictions: folder as predict.py writes it, or a folder of label images.
        names: keys of FORMATS.
        out: folder to write to (default: `predictions`).
        images: folder of the images, to measure again; None takes the measurements of nuclei.csv.
        mpp: µm per pixel; None takes what summary.csv says of each image, if anything.
        overwrite: replace existing files. Without it they stay, because you may have corrected
            them.
        editable: write GeoJSON as annotations, which QuPath's brush can edit.

    Returns:
        (number of files written, number of existing files that stayed, a line for each image that
        was skipped, because its files cannot be read or do not belong together).

    Raises:
        FileNotFoundError, ValueError: there is nothing to export, or a package is missing.
    """
    require_formats(names)
    out = Path(predictions if out is None else out)
    folder = open_predictions(predictions, images)
    num_written = num_skipped = num_nuclei = 0
    failures = []
    inputs = [*folder.labels.values(), *folder.images.values()]
    with (
        recording(out, overwrite, inputs),
        Progress("Exporting", len(folder.labels), "images", log=True) as progress,
    ):
        for stem in folder.labels:
            progress.add(1, note=f"{num_nuclei:,} nuclei")
            missing = [
                name
                for name in names
                if overwrite or not os.path.lexists(FORMATS[name].path(out, stem))
            ]
            num_skipped += len(names) - len(missing)
            if missing:
                try:
                    nuclei = load_nuclei(folder, stem, mpp, editable)
                except (OSError, ValueError) as error:
                    failures.append(str(unreadable(folder.labels[stem], error)))
                    progress.say(f"skipped: {failures[-1]}")
                    continue
                try:
                    write_formats(out, missing, nuclei)
                except ValueError as error:  # Protected, or too large for a format
                    failures.append(str(error))
                except OSError as error:
                    if not is_fault_of_name(error):
                        raise
                    failures.append(f"{folder.labels[stem]}: {NAME_REFUSED}")
                else:
                    num_written += len(missing)
                    num_nuclei += len(nuclei.table)
                    continue
                progress.say(f"skipped: {failures[-1]}")
    return num_written, num_skipped, failures


def export_model(model_path, kinds, out=None, package=None, overwrite=False):
    """Write a model file as STEM.onnx and STEM.bioimageio.zip.

    Each file is run and compared with Keras before it is kept.

    Args:
        model_path: as train.py writes it.
        kinds: keys of MODEL_SUFFIXES; the bioimage.io package holds the ONNX file.
        out: folder to write to (default: the folder of the model).
        package: `Credits` of the bioimage.io package; what is None there gets a default.
        overwrite: replace existing files.

    Returns:
        The paths.

    Raises:
        FileNotFoundError, ValueError: as `load_network`, `export_onnx`, `export_bioimageio`; or
            files exist.
    """
    model_path = Path(model_path)
    read_settings(model_path)  # refuses what is not a model file, before Keras is imported
    out = model_path.parent if out is None else Path(out)
    paths = {kind: out / (model_path.stem + MODEL_SUFFIXES[kind]) for kind in kinds}
    existing = [path for path in paths.values() if path.exists()]
    if existing and not overwrite:
        raise ValueError(
            f"{named(existing)} is there already; give --overwrite to replace it, or --out another "
            "folder"
        )
    if "bioimageio" in kinds:
        require(("bioimageio.core",), "the export to bioimage.io")
        name, author, licence = package or (None, None, None)
        name, author = name or name_of_package(model_path.stem), author or getpass.getuser()
        package = Credits(name, author, licence or LICENCE)
        require_credits(package)
    with contextlib.ExitStack() as stack:
        stack.enter_context(writing_into(out))
        network, settings = load_network(model_path)
        onnx_path = paths.get("onnx", temporary_name(out / "model.onnx"))
        if "onnx" not in paths:
            stack.callback(onnx_path.unlink, missing_ok=True)
        difference = export_onnx(network, settings, onnx_path)
        if "onnx" in paths:
            print(
                f"{onnx_path}: run by onnxruntime, differs from Keras by {difference:.1g} at most"
            )
        if "bioimageio" in paths:
            difference = export_bioimageio(
                network, settings, onnx_path, paths["bioimageio"], package
            )
            print(
                f"{paths['bioimageio']}: valid, run by bioimageio.core, differs from Keras by "
                f"{difference:.1g} at most"
            )
    return list(paths.values())


def parse_arguments(argv):
    """Read the command line. A usage error ends the program with status 2."""
    parser = command_line(__doc__)
    add = parser.add_argument_group("nuclei").add_argument
    add(
        "predictions",
        nargs="?",
        metavar="PREDICTIONS",
        help="folder that predict.py wrote, or a folder of label images (default "
        f"{PREDICTIONS_DIR})",
    )
    add(
        "--formats",
        type=choice_of(FORMATS),
        metavar="NAME,...",
        help=f"formats to write, see the table above (default {FORMATS_DEFAULT})",
    )
    text = "folder of the images, to measure again (default: take nuclei.csv as it is)"
    add("--images", metavar="DIR", help=text)
    text = "µm per pixel (default: what predict.py used, if anything)"
    add("--mpp", type=microns, metavar="UM", help=text)
    text = "GeoJSON as annotations, which QuPath's brush can edit (default: detections)"
    add("--editable", action="store_true", help=text)
    add = parser.add_argument_group("the model").add_argument
    add(
        "--model-out",
        type=choice_of(MODEL_SUFFIXES),
        metavar="NAME,...",
        help="export the model instead: onnx, bioimageio (default: export nuclei)",
    )
    add(
        "--model",
        metavar="MODEL",
        help=f"model to export: {MODEL_HELP} (default {MODELS[0]}, or else {MODELS[1]})",
    )
    add("--name", help="name of the bioimage.io package (default: from the file name)")
    add("--author", help="author of the bioimage.io package (default: your login)")
    text = f"licence of the bioimage.io package, such as CC-BY-4.0 (default {LICENCE})"
    add("--licence", metavar="SPDX", help=text)
    add = parser.add_argument_group("both").add_argument
    add(
        "--out",
        metavar="DIR",
        help="folder to write to (default: PREDICTIONS; for a model its own folder)",
    )
    add("--overwrite", action="store_true", help="replace existing files (default: they stay)")
    add_quiet_flag(parser)
    args = parser.parse_args(argv)
    nuclei_flags = (args.predictions, args.formats, args.images, args.mpp, args.editable)
    if args.model_out and any(nuclei_flags):
        parser.error("--model-out exports a model; export nuclei by a second call")
    if args.model is not None and not args.model_out:
        parser.error("--model goes with --model-out onnx or bioimageio")
    credits = (args.name, args.author, args.licence)
    if credits != (None, None, None) and "bioimageio" not in (args.model_out or ()):
        parser.error("--name, --author and --licence go with --model-out bioimageio")
    if args.editable and not has_geojson(args.formats or [FORMATS_DEFAULT]):
        parser.error("--editable is for GeoJSON: add geojson to --formats")
    return args


def export_as_asked(args):
    """Export nuclei or a model, and say how many files were written. Returns the exit status."""
    if args.model_out:
        package = Credits(args.name, args.author, args.licence)
        export_model(find_model(args.model), args.model_out, args.out, package, args.overwrite)
        return 0
    predictions, names = args.predictions or PREDICTIONS_DIR, args.formats or [FORMATS_DEFAULT]
    written, skipped, failures = export(
        predictions, names, args.out, args.images, args.mpp, args.overwrite, args.editable
    )
    print(f"{', '.join(names)}: {plural(written, 'file')} written to {args.out or predictions}/")
    if skipped:
        print(f"Left as it was: {plural(skipped, 'file')} (--overwrite replaces existing files)")
    if failures:
        message = f"{plural(len(failures), 'image')} could not be exported: skipped"
        print(f"exports.py: {message}", file=sys.stderr)
    return 1 if failures else 0


@user_errors_in_one_line
def main(argv=None):
    """Export nuclei or a model and return the exit status."""
    args = parse_arguments(argv)
    with quietly(args.quiet):
        return export_as_asked(args)


if __name__ == "__main__":
    sys.exit(main())
