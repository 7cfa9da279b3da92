"""nuclei.inference.folder"""

import contextlib
import sys
import time

from nuclei.images.reading import declared_pixels
from nuclei.inference.find import predict_image
from nuclei.inference.threads import PixelBudget, in_order
from nuclei.inference.tiling import TILE_PX
from nuclei.model_file import TRAINED_DIAMETER_PX
from nuclei.results.image import write_files, write_rows
from unet import network_geometry

PIXELS_AT_ONCE = 16_000_000  # of these images together, some 80 bytes each; a larger image is worked on alone


def show_image_progress(done, total, started, nuclei):
    """One line that rewrites itself on a terminal; a line for every tenth of the work otherwise."""
    passed = time.monotonic() - started
    left = passed / done * (total - done)
    line = f"{done}/{total} images, {nuclei} nuclei, {passed:.0f} s, {left:.0f} s left"
    if sys.stdout.isatty():
        print(f"\r{line:<78}", end="\n" if done == total else "", flush=True)
    elif done == total or done * 10 // total > (done - 1) * 10 // total:
        print(line, flush=True)


def process_image(
    network, room, out, stem, path, formats, formats_there, settings, thresholds, made_by, min_area, scale, tile, batch_size, mpp
):
    """One image from file to files; returns what `write_files` does, or the error where it could not be read."""
    num_maps, geometry = len(settings["architecture"]["heads"]), network_geometry(settings["architecture"])
    trained_diameter = settings.get("trained_diameter_px", TRAINED_DIAMETER_PX)
    with room.taken(declared_pixels(path)):
        began = time.monotonic()
        try:
            found = predict_image(
                path, network, num_maps, thresholds, min_area, trained_diameter, scale, tile, batch_size, geometry
            )
        except (ValueError, MemoryError) as error:
            return error
        seconds = time.monotonic() - began
        return write_files(out, stem, path, *found, settings, seconds, made_by, formats, formats_there, mpp)


def predict_all(
    out, files, network, settings, thresholds, made_by, asked, there=None, min_area=None, scale=None, tile=TILE_PX,
    batch_size=1, mpp=None, cluster=None,
):  # fmt: skip
    """Find the nuclei of many images and write them, several images at once, the rows of the tables in the order given.

    Args:
        files: {stem: path}.
        asked, there: {stem: formats} to be written, and written by an earlier run.
        network, settings, thresholds, min_area, scale, tile, batch_size, mpp: as `predict_image` and `write_files`.
        cluster: whose workers do it, by networks of their own; None for the threads of this process.

    Returns:
        The number of nuclei, and for each image that could not be read a line that says why.
    """
    there, room = there or {}, PixelBudget(PIXELS_AT_ONCE)
    settled = (settings, thresholds, made_by, min_area, scale, tile, batch_size, mpp)
    jobs = [(out, stem, path, asked[stem], there.get(stem, ()), *settled) for stem, path in files.items()]
    results = in_order(lambda job: process_image(network, room, *job), jobs) if cluster is None else cluster.do_images(jobs)
    started, nuclei, failures = time.monotonic(), 0, []
    with contextlib.closing(results):
        for done, ((stem, path), result) in enumerate(zip(files.items(), results, strict=True), start=1):
            if isinstance(result, Exception):
                failures.append(f"{path}: {result}" if str(path) not in str(result) else str(result))
                print(f"\nskipped: {failures[-1]}", file=sys.stderr)
            else:
                write_rows(out, *result, asked[stem], there.get(stem, ()))
                nuclei += len(result[0])
            show_image_progress(done, len(files), started, nuclei)
    return nuclei, failures
