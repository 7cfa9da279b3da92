"""nuclei.formats.bioimageio"""

import contextlib
import json
import shutil

import numpy as np

from nuclei.files import replacing
from nuclei.formats.onnx import check_same, geometry_of
from nuclei.images.intensity import RANGE_PERCENTILES
from nuclei.instances.separate import THRESHOLDS
from nuclei.machine import require

LICENCE = "MIT"  # of an exported model package, unless --licence says another


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
    thresholds = {**THRESHOLDS, **settings.get("thresholds", {})}
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
