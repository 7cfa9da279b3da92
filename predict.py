"""Find every nucleus in images: masks, separated nuclei, overlays and tables.

    python predict.py                                       # test_raw -> predictions/
    python predict.py slides/a.png more_images --out found  # files and folders
    python predict.py --mpp 0.5                             # µm per pixel: the scale is known
    python predict.py slide.svs                             # a whole slide, or a folder of them
    python predict.py --model Saved_Model/previous/2026-11-22_10-00-00/trained_model.h5 --out old

For every image, at its own size:

    predictions/masks/STEM.png      0 background, 255 nucleus
    predictions/labels/STEM.png     16-bit, 0 background, 1...n nuclei (above 65,535: STEM.tif)
    predictions/overlays/STEM.jpg   outlines on the image
    predictions/nuclei.csv          one row for each nucleus
    predictions/summary.csv         one row for each image

    python predict.py --formats masks,geojson,imagej        # these instead; exports.py lists them
    python predict.py --engine keras                        # instead of the fastest one installed

A whole slide (.svs, .ndpi, .mrxs ..., OME-TIFF, large tiled TIFF, OME-Zarr) is read tile by tile
where there is tissue:

    predictions/tissue/STEM.png             where the tissue is
    predictions/overlays/STEM.jpg           the slide with its nuclei, or a map of their density
    predictions/fields/                     some fields at full size, for report.py and to correct
    predictions/geojson/STEM.geojson.zip    for QuPath
    predictions/nuclei.csv, summary.csv     as for images; --formats adds ometiff, omezarr, parquet

The network knows nuclei of one size. The size of the nuclei in an image is estimated first, and the
network sees the image larger or smaller by a factor (column scale of summary.csv). All results are
at the image's own size.

    python predict.py my_images --workers 4                     # four processes, each with a GPU
    python predict.py slides --scheduler tls://10.0.0.1:8786 \\
        --tls-ca-file ca.pem --tls-cert cert.pem --tls-key key.pem  # workers of a Dask cluster

A second run continues where the first one was stopped and skips what is finished; a format that an
image lacks is added. A file that cannot be read is named and skipped, a result that you corrected
by hand stays as it is; the exit status is then 1.
"""

from nuclei.stopping import stop_while_importing

if __name__ == "__main__":
    stop_while_importing()

import contextlib
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from nuclei.cli import (
    COARSE_ENGINES,
    ENGINES,
    INPUT_DIR,
    MODEL_HELP,
    PREDICTIONS_DIR,
    SHIPPED,
    add_plane_flags,
    add_quiet_flag,
    choice_of,
    command_line,
    decimal,
    microns,
    positive,
    user_errors_in_one_line,
)
from nuclei.files import plural
from nuclei.folder_lock import only_run
from nuclei.formats.registry import FORMATS, has_geojson
from nuclei.images.origin import SYNTHETIC, is_synthetic
from nuclei.inference.cluster import Cluster
from nuclei.inference.encryption import add_cluster_flags, tls_of
from nuclei.inference.engines import load_model
from nuclei.inference.find import NUCLEUS_UM, Options
from nuclei.inference.folder import predict_images
from nuclei.inference.threads import WORKERS
from nuclei.inference.tiling import TILE_PX, cut
from nuclei.inference.workers import WorkerSource
from nuclei.inference.zooms import ZOOMS, tile_geometry
from nuclei.model_file import MODELS, data_sets, describe_model, find_model, stored_model
from nuclei.progress import quietly
from nuclei.results.image import DEFAULT_FORMATS
from nuclei.results.jobs import Run, name_maker, seen_from
from nuclei.results.pictures import COLOUR_RULES
from nuclei.results.tables import merge_changed_rows
from nuclei.slides.folder import predict_slides
from nuclei.slides.formats import is_slide
from nuclei.slides.found import SLIDE_FORMATS_DEFAULT
from nuclei.slides.large_image import find_in_bands, is_large
from nuclei.slides.plan import Plan, choose_formats, collect, describe_left_out
from nuclei.written import recording


def parse_arguments(argv):
    """Read the command line. A usage error ends the program with status 2."""
    parser = command_line(__doc__)
    add = parser.add_argument
    text = f"images, slides and folders of them (default {INPUT_DIR})"
    add("inputs", nargs="*", default=[INPUT_DIR], metavar="INPUT", help=text)
    text = f"{MODEL_HELP} (default {MODELS[0]}, or else {MODELS[1]})"
    add("--model", metavar="MODEL", help=text)
    text = f"folder for the results (default {PREDICTIONS_DIR})"
    add("--out", default=PREDICTIONS_DIR, metavar="DIR", help=text)
    formats = list(dict.fromkeys([*DEFAULT_FORMATS, *FORMATS]))
    text = f"what to write: {', '.join(formats)} (default {','.join(DEFAULT_FORMATS)}; "
    text += f"for slides {','.join(SLIDE_FORMATS_DEFAULT)})"
    add("--formats", type=choice_of(formats), metavar="NAME,...", help=text)
    text = "do finished images again, replace files of others and changed ones (default: skip them)"
    add("--overwrite", action="store_true", help=text)
    text = "GeoJSON as annotations, which QuPath's brush can edit (default: detections)"
    add("--editable", action="store_true", help=text)
    text = "outlines of overlays: one colour, by confidence (green from 0.8, white from 0.5, red "
    text += "below), or another colour for each id (default one)"
    add("--overlay-colour", choices=COLOUR_RULES, default="one", help=text)
    add_quiet_flag(parser)
    add = parser.add_argument_group("nuclei").add_argument
    text = f"µm per pixel: nuclei of {NUCLEUS_UM:g} µm are expected, results are in µm, too "
    text += "(default: what the file states)"
    add("--mpp", type=microns, metavar="UM", help=text)
    text = "median nucleus diameter (default: from the µm per pixel, or else estimated)"
    add("--diameter", type=decimal, metavar="PX", help=text)
    text = "probability above which a pixel is nucleus (default: the model's)"
    add("--threshold", type=decimal, metavar="P", help=text)
    text = "area below which an object is dropped (default: the model's)"
    add("--min-area", type=positive, metavar="PX", help=text)
    text = "see each image at three sizes, and mirrored: better, six times the work (default: off)"
    add("--tta", action="store_true", help=text)
    add_plane_flags(parser)
    add = parser.add_argument_group("slides").add_argument
    text = "search all of a slide (default: only where there is tissue)"
    add("--no-tissue-mask", action="store_true", help=text)
    add = parser.add_argument_group("speed and memory").add_argument
    text = f"what runs the network (default auto: the first of {', '.join(ENGINES)} that is "
    text += "installed and agrees with Keras; the others are faster and less exact)"
    add("--engine", choices=("auto", *ENGINES, *COARSE_ENGINES), default="auto", help=text)
    text = f"side of the tiles that the network sees (default {TILE_PX})"
    add("--tile", type=positive, default=TILE_PX, metavar="PX", help=text)
    text = "tiles in one call of the network (default 1)"
    add("--batch-size", type=positive, default=1, metavar="N", help=text)
    group = parser.add_argument_group("a cluster (python -m pip install distributed cryptography)")
    add_cluster_flags(group.add_argument)
    args = parser.parse_args(argv)
    args.tls = tls_of(args, parser.error)
    if args.threshold is not None and not 0 < args.threshold < 1:
        parser.error(f"--threshold is {args.threshold}; it must lie between 0 and 1")
    if args.diameter is not None and not args.diameter > 0:
        parser.error(f"--diameter is {args.diameter}; it must be above 0")
    if args.editable and not has_geojson(args.formats or ["geojson"]):
        parser.error("--editable is for GeoJSON: add geojson to --formats")
    if args.scheduler and args.workers:
        parser.error("--scheduler brings workers of its own; leave out --workers")
    return args


def make_plan(args):
    """Find out what is to be done. All that can be wrong is found here, before any work."""
    files, model = collect(args.inputs), stored_model(find_model(args.model))
    for line in describe_left_out(args.inputs):
        print(line)
    settings = model.settings
    trained = settings.get("arguments", {})  # of train.py, whose choice of channel is repeated
    options = Options(
        diameter_px=args.diameter,
        mpp=args.mpp,
        threshold=args.threshold,
        min_area_px=args.min_area,
        tile_px=args.tile,
        batch_size=args.batch_size,
        channel=args.channel or trained.get("channel"),
        plane=args.plane or trained.get("plane"),
        tissue_mask=not args.no_tissue_mask,
    )
    slides = {stem for stem, path in files.items() if is_slide(path)}
    formats = choose_formats(files, slides, args.formats, args.editable)
    if args.overlay_colour == "confidence" and "calibration" not in settings:
        raise ValueError(
            f"{model.path} gives no confidence, because it was not calibrated on validation "
            "images; leave out --overlay-colour confidence"
        )
    # A tile that is too small ends here.
    cut(1, 3 * args.tile, args.tile, **tile_geometry(settings["architecture"], args.tta))
    decisive = replace(options, tile_px=TILE_PX, batch_size=1)  # these two change nothing
    made_by = name_maker(model, decisive, ZOOMS if args.tta else False)
    return Plan(Path(args.out), model, options, made_by, files, slides, formats)


@contextlib.contextmanager
def open_cluster(plan, args):
    """The `Cluster` that the user asked for, else None, as a context manager."""
    if not (args.scheduler or args.workers):
        yield None
        return
    with plan.model.copied_into(plan.out) as path:  # all workers see this folder
        source = WorkerSource.from_file(path, args.engine, args.tta)
        with Cluster(args.scheduler, args.workers, source, plan.out, args.tls) as cluster:
            yield cluster


def open_models(plan, args, num_images, num_here, cluster):
    """The `Run` of the images, and that of slides and large images, which are done here.

    Each has a model where it needs one.
    """
    image_run = slide_run = Run(
        out=plan.out,
        model=None,
        options=plan.options,
        made_by=plan.made_by,
        editable=args.editable,
        model_file=seen_from(plan.out, plan.model.path),
        overlay_colour=args.overlay_colour,
    )
    if num_images and cluster is None:
        callers = min(WORKERS, num_images)
        model = load_model(plan.model, args.engine, callers, tta=args.tta)
        image_run = replace(image_run, model=model)
    if num_here:  # also with a cluster: the scale of a slide is estimated here
        model = image_run.model or load_model(plan.model, args.engine, tta=args.tta)
        slide_run = replace(slide_run, model=model)
    return image_run, slide_run


def describe_model_used(plan, jobs):
    """Print which model is used and what it is; warn where it has learned from drawings only."""
    settings = plan.model.settings
    print(describe_model(plan.model.path, settings))
    only_synthetic = set(data_sets(settings)) == {SYNTHETIC}
    if only_synthetic and not all(is_synthetic(job.path) for job in jobs):
        text = "this model has learned from synthetic images only; for other images take "
        text += f"--model {SHIPPED}, or fine-tune it (python train.py --init {SHIPPED})"
        print(f"predict.py: {text}", file=sys.stderr)


def describe_results(plan, jobs, tally):
    """Print what was written and where, what to try, and how many images could not be read."""
    num_failures = len(tally.failures)
    if num_failures < len(jobs):
        written = ", ".join(dict.fromkeys(name for job in jobs for name in job.formats))
        images = plural(len(jobs) - num_failures, "image")
        nuclei = plural(tally.num_nuclei, "nucleus", "nuclei")
        print(f"{images}, {nuclei}: {written} and summary.csv lie in {plan.out}/")
        print("To look at them: python report.py", shlex.quote(str(plan.out)))
    for line in tally.advice():
        print(line)
    if num_failures:
        message = f"{num_failures} of {plural(len(jobs), 'image')} could not be read: skipped"
        print(f"predict.py: {message}", file=sys.stderr)


def predict(args):
    """Find the nuclei of all inputs and return the exit status."""
    plan = make_plan(args)
    inputs = [*plan.files.values(), plan.model.path]
    with only_run(plan.out), recording(plan.out, args.overwrite, inputs) as record:
        record.gather_parts()
        jobs, staying = plan.jobs_left(record)
        for line in staying.lines():
            print(f"predict.py: {line}", file=sys.stderr)
        if not jobs:
            print(f"Nothing to do: all results lie in {plan.out}")
            return 1 if any(staying) else 0
        describe_model_used(plan, jobs)
        slides = [job for job in jobs if job.stem in plan.slides]
        plain = [job for job in jobs if job.stem not in plan.slides]
        large = [job for job in plain if is_large(job.path)]
        in_bands = {job.stem for job in large}
        images = [job for job in plain if job.stem not in in_bands]
        with open_cluster(plan, args) as cluster:
            num_here = len(slides) + len(large)
            image_run, slide_run = open_models(plan, args, len(images), num_here, cluster)
            model = slide_run.model or image_run.model
            device = cluster.description if cluster else model.device
            print(f"{plural(len(jobs), 'image')} on {device}")
            try:
                tally = predict_images(images, image_run, cluster)
                tally += predict_images(large, slide_run, find=find_in_bands)
                tally += predict_slides(slides, slide_run, cluster)
            finally:
                merge_changed_rows(plan.out)
        record.gather_parts()
    describe_results(plan, jobs, tally)
    return 1 if tally.failures or any(staying) else 0


@user_errors_in_one_line
def main(argv=None):
    """Do what the command line asks and return the exit status."""
    args = parse_arguments(argv)
    with quietly(args.quiet):
        return predict(args)


if __name__ == "__main__":
    sys.exit(main())
