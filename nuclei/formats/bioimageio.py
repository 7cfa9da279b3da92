"""The network as a bioimage.io package: a zip with ONNX weights, a description and a test image.

    package = Credits("nuclei a", "A Student")
    export_bioimageio(network, settings, "a.onnx", "a.bioimageio.zip", package)

The steps: write the files of the package (`write_members`), describe them (`bioimageio_spec`), pack
and validate them (`pack`), run the package and compare its maps with those of Keras (`compare`).
The package scales an image by percentiles with bioimage.io's own arithmetic. That has no lower
limit of the range, so a blank image does not stay blank as it does in predict.py.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np

from nuclei.files import replacing
from nuclei.formats.bioimageio_spec import allowed_sizes, describe
from nuclei.formats.onnx import check_same
from nuclei.images.intensity import RANGE_PERCENTILES
from nuclei.instances.separate import THRESHOLDS
from nuclei.machine import require
from nuclei.model_file import TRAINED_DIAMETER_PX

TEXT = """# {name}

A U-Net that finds nuclei in histology and fluorescence images. Input: RGB grey levels of any depth;
grey images as three equal channels; nuclei of about {diameter:g} px in diameter: resize others.
Output: {heads}, each from 0 to 1.

## From maps to nuclei

Pixels whose nucleus probability is above {nucleus_threshold} are foreground. Where there is a
distance map, blur it with sigma {smoothing_px} px. Where there is a contact map, subtract
{contact_weight} of it. The connected regions above {marker_threshold} are markers: grow them over
the foreground by watershed. Remove nuclei below {min_area_px} px and nuclei with a mean
probability below {min_probability}.

## Validation

Compare separated nuclei with hand-drawn nuclei on images that the training has not seen: the share
of nuclei matched at an overlap (IoU) of 0.5 and, for the pixels, the Dice coefficient.
{scores}
"""


def example_image(side, seed=0):
    """Draw bright blobs on dark ground: (side, side, 3) float32, whole grey levels 0...255."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).random((side, side, 3))
    smooth = ndimage.gaussian_filter(noise, (4, 4, 0))
    return np.round(255 * np.clip((smooth - 0.5) * 8 + 0.3, 0, 1)).astype(np.float32)


def scaled_by_percentiles(image):
    """Scale an image as the package does it before the network, in float64.

    RANGE_PERCENTILES of all values become 0 and 1; the rest is clipped.
    """
    low, high = np.percentile(image.astype(np.float64), RANGE_PERCENTILES)
    return np.clip((image - low) / (high - low + 1e-6), 0, 1).astype(np.float32)


def package_text(settings, name):
    """The README inside the package: input, output, from maps to nuclei, scores."""
    scores = settings.get("scores", {}).get("validation", {}).get("all")
    diameter = settings.get("trained_diameter_px", TRAINED_DIAMETER_PX)  # that the network sees
    return TEXT.format(
        name=name,
        heads=", ".join(settings["architecture"]["heads"]),
        diameter=diameter,
        scores=f"Stored with the model: {json.dumps(scores)}."
        if scores
        else "No scores are stored with this model.",
        **{**THRESHOLDS, **settings.get("thresholds", {})},
    )


def write_members(folder, network, settings, onnx_path, name):
    """Write the files of the package into a folder: test input and output, weights, README.

    Returns:
        Keras's maps of the test image, (1, side, side, maps) float32.
    """
    image = example_image(allowed_sizes(settings).smallest)[None]
    maps = network.predict_on_batch(scaled_by_percentiles(image))
    np.save(folder / "test_input.npy", image)
    np.save(folder / "test_output.npy", maps)
    shutil.copyfile(onnx_path, folder / "weights.onnx")
    (folder / "README.md").write_text(package_text(settings, name), encoding="utf-8")
    return maps


def pack(description, path):
    """Write the zip and load it again.

    Returns:
        The loaded description.

    Raises:
        ValueError: bioimageio.spec does not accept it.
    """
    from bioimageio.spec import InvalidDescr, load_description, save_bioimageio_package

    save_bioimageio_package(description, output_path=path)
    loaded = load_description(path, perform_io_checks=True)
    if isinstance(loaded, InvalidDescr):
        raise ValueError(
            f"bioimageio.spec does not accept the package ({loaded.validation_summary.status})"
        )
    return loaded


def compare(loaded, network, sizes, maps):
    """Run the package by bioimageio.core and compare it with Keras.

    One image goes through as a whole, another one in blocks.

    Args:
        loaded: as from `pack`.
        network: the `keras.Model`.
        sizes: its `Sizes`.
        maps: Keras's maps of the test image, as from `write_members`.

    Returns:
        The largest difference.

    Raises:
        ValueError: the maps differ.
    """
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import create_sample_for_model

    def sample(image):
        return create_sample_for_model(loaded, inputs={"image": image})

    small = example_image(sizes.smallest)[None]
    wide = example_image(3 * sizes.halo + sizes.multiple, seed=1)[None]
    block = {"batch": 1, "y": 3 * sizes.halo, "x": 3 * sizes.halo, "channel": 3}
    with create_prediction_pipeline(loaded) as pipeline:
        whole = pipeline.predict_sample_without_blocking(
            sample(small), skip_input_padding=True, skip_output_cropping=True
        )
        in_blocks = pipeline.predict_sample_with_fixed_blocking(
            sample(wide), input_block_shape={"image": block}
        )
    whole, in_blocks = (result.members["maps"].data.to_numpy() for result in (whole, in_blocks))
    # The border is left out: bioimageio.core pads there by reflection, Keras with zeros.
    inner = (slice(None), slice(sizes.halo, -sizes.halo), slice(sizes.halo, -sizes.halo))
    wide_maps = network.predict_on_batch(scaled_by_percentiles(wide))
    return max(
        check_same("the bioimage.io package", maps, whole),
        check_same("the bioimage.io package in blocks", wide_maps[inner], in_blocks[inner]),
    )


def export_bioimageio(network, settings, onnx_path, path, package):
    """Pack the ONNX file as a bioimage.io model (zip), validate it, run it, compare it with Keras.

    Args:
        network: a `keras.Model`.
        settings: of its model file.
        onnx_path: the file that `export_onnx` wrote for the same network.
        path: the zip to write.
        package: its `Credits`.

    Returns:
        The largest difference from Keras.

    Raises:
        ValueError: a package is missing, the description is not valid, or the maps differ.
    """
    require(("bioimageio.core",), "the export to bioimage.io")
    os.environ.setdefault("TQDM_DISABLE", "1")  # bioimageio.core draws bars for parts of a second
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(replacing(path))
        folder = Path(temporary.with_suffix(""))
        folder.mkdir()
        stack.callback(shutil.rmtree, folder)
        maps = write_members(folder, network, settings, onnx_path, package.name)
        loaded = pack(describe(folder, settings, package), temporary)
        return compare(loaded, network, allowed_sizes(settings), maps)
