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
network so much larger or smaller (column scale of summary.csv); all results are at the image's own size.

    python predict.py my_images --workers 4                          # four processes, each with a GPU of its own
    python predict.py slides --scheduler tcp://10.0.0.1:8786         # the workers of a Dask cluster

A second run goes on where the first one was stopped and skips what is finished; a format that an image lacks is added. A
file that cannot be read is named and skipped; the exit status is then 1.
"""

import argparse
import contextlib
import hashlib
import shlex
import sys
from pathlib import Path

import numpy as np

from nuclei.cli import INPUT_DIR, PREDICTIONS_DIR, choice_of, microns, positive, user_errors_in_one_line
from nuclei.files import only_run
from nuclei.formats.registry import FORMATS, require_formats
from nuclei.images.pairs import find_images, image_files
from nuclei.images.reading import IMAGE_SUFFIXES
from nuclei.inference.cluster import Cluster
from nuclei.inference.engines import COARSE_ENGINES, ENGINES, start_engine
from nuclei.inference.folder import predict_all
from nuclei.inference.scale import SCALE_LIMITS
from nuclei.inference.threads import WORKERS
from nuclei.inference.tiling import TILE_PX, cut, dihedral
from nuclei.instances.separate import THRESHOLDS
from nuclei.machine import require
from nuclei.model_file import MODELS, TRAINED_DIAMETER_PX, find_model, read_settings
from nuclei.results.image import DEFAULT_FORMATS
from nuclei.results.tables import finished_before
from nuclei.slides.folder import NUCLEUS_UM, formats_of, predict_slides
from nuclei.slides.formats import SUFFIXES, find_slides, is_slide
from nuclei.slides.found import SLIDE_FORMATS_DEFAULT
from nuclei.slides.setup import clear
from unet import network_geometry


def collect(inputs):
    """Files of images and slides of the given files and folders, {stem: path}, in the order given.

    Raises:
        FileNotFoundError, ValueError: an input is missing or no image, a folder is empty, or a stem appears twice.
    """
    suffixes = (*IMAGE_SUFFIXES, *SUFFIXES)
    found = {}
    for entry in map(Path, inputs):
        if not entry.exists():
            raise FileNotFoundError(f"{entry} does not exist; expected a file of an image or slide, or a folder of them")
        if entry.is_file() or is_slide(entry):
            if entry.suffix.lower() not in suffixes:
                raise ValueError(f"{entry} is no image by its name; expected one of {', '.join(suffixes)}")
            files = [(entry.stem, entry)]
        else:
            files = find_slides(entry)
            files += find_images(entry).items() if image_files(entry) or not files else ()
        for stem, path in files:
            if stem in found and found[stem].resolve() != path.resolve():
                raise ValueError(f"{found[stem]} and {path} would both become {stem}.png; predict into two --out folders")
            found.setdefault(stem, path)
    return found


def run(argv, held):
    """What `main` does. held: for the lock of the folder, which goes when `main` ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("inputs", nargs="*", default=[INPUT_DIR], metavar="INPUT_DIR", help=f"image files and folders (default {INPUT_DIR})")
    add("--model", default=None, metavar="FILE", help=f"(default {MODELS[0]}, or else {MODELS[1]})")
    add("--out", default=PREDICTIONS_DIR, metavar="DIR", help=f"(default {PREDICTIONS_DIR})")
    add("--tile", type=positive, default=TILE_PX, metavar="PX", help=f"side of a window (default {TILE_PX})")
    add("--batch-size", type=positive, default=1, metavar="N", help="windows in one call of the network (default 1)")
    add("--threshold", type=float, metavar="P", help="probability from which a pixel is nucleus (default: the model's)")
    add("--min-area", type=positive, metavar="PX", help="area below which an object is dropped (default: the model's)")
    add("--diameter", type=float, metavar="PX", help="median nucleus diameter in the images (default: estimated for each)")
    add("--engine", choices=("auto", *ENGINES, *COARSE_ENGINES), default="auto",
        help=f"what runs the network (default auto: of {', '.join(ENGINES)} the first that is installed and agrees "
        "with Keras)")  # fmt: skip
    add("--tta", action="store_true", help="average over eight flips and turns, for eight times the work")
    formats = list(dict.fromkeys([*DEFAULT_FORMATS, *FORMATS]))
    add("--formats", type=choice_of(formats), metavar="NAME,...",
        help=f"of {', '.join(formats)} (default {','.join(DEFAULT_FORMATS)}; slides {','.join(SLIDE_FORMATS_DEFAULT)})")  # fmt: skip
    add(
        "--mpp",
        type=microns,
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
    settings = read_settings(model_path)
    thresholds = {**THRESHOLDS, **settings["thresholds"]}
    if args.threshold is not None:
        thresholds["nucleus_threshold"] = args.threshold
    trained_diameter = settings.get("trained_diameter_px", TRAINED_DIAMETER_PX)
    diameter = args.diameter or (NUCLEUS_UM / args.mpp if args.mpp else None)
    scale = float(np.clip(trained_diameter / diameter, *SCALE_LIMITS)) if diameter else None
    large = {stem for stem, path in files.items() if is_slide(path)}
    formats = {stem: formats_of(path, stem in large, args.formats) for stem, path in files.items()}
    require_formats(dict.fromkeys(name for names in formats.values() for name in names))
    require(["zarr"] if any("ometiff" in formats[stem] for stem in large) else [], "the format ometiff of slides")
    decisive = repr((sorted(thresholds.items()), args.min_area, scale, args.tta, args.mpp))
    if args.channel or args.no_tissue_mask:
        decisive += repr((args.channel, args.no_tissue_mask))
    model_hash = hashlib.sha256(model_path.read_bytes() + decisive.encode()).hexdigest()[:12]
    made_by = f"{model_path.name} {model_hash}"
    # A tile too small ends here, before any work.
    cut(1, args.tile * 3, args.tile, **network_geometry(settings["architecture"]))
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
        clear(out, stem)  # the last step of a slide, which a kill may have kept from it
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
        network, device = start_engine(model_path, args.engine, callers=callers)
        return dihedral(network) if args.tta else network, device

    network, of_slides, device = None, None, None
    if images and cluster is None:
        network, device = make_network(min(WORKERS, len(images)))
    if slide_files:  # also on a cluster: by it the scale of a slide is estimated here
        of_slides, device = make_network(1)
    print(f"{len(todo)} images with {model_path} on {cluster.words if cluster else device}")
    nuclei, failures = predict_all(
        out, images, network, settings, thresholds, made_by, asked, there, args.min_area, scale, args.tile, args.batch_size,
        args.mpp, cluster,
    ) if images else (0, [])  # fmt: skip
    more, slides_failed = predict_slides(
        args, out, slide_files, of_slides, thresholds, scale, settings, made_by, asked, there, cluster
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
