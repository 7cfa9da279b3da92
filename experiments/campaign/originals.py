"""Whole files of every kind that the programs read, drawn anew: the campaign damages them.

make_originals(Path("originals"))       # the kinds, each with the file and its form
"""

import io
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tifffile
from PIL import Image

from nuclei.images.labels import joined

SHAPE = (56, 64)  # height and width in px: a reader's checks need no more


class Original(NamedTuple):
    """A whole file.

    Attributes:
        name: its file name; the suffix counts.
        form: how it is damaged, see `damage.damaged`.
        content: bytes.
        role: "image", "truth", "archive", "set" or "slide": where it is put.
    """

    name: str
    form: str
    content: bytes
    role: str


def draw():
    """(image, labels): (H, W, 3) uint8 with six bright nuclei, and their ids as uint16."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    mask = ((rows % 28 - 14) ** 2 + (columns % 21 - 10) ** 2) < 64
    grey = np.where(mask, 200, 20) + np.random.default_rng(0).integers(0, 9, SHAPE)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2), joined(mask).astype(np.uint16)


def encoded(array, form, **options):
    """An array as a picture file, bytes."""
    buffer = io.BytesIO()
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def tiff(array, **options):
    """An array as a TIFF, bytes."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def zipped(members):
    """A zip of {name: bytes}."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def array_file(array, **several):
    """An array as .npy, or several as .npz: bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **several) if several else np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def pictures(image):
    """Images and photographs as {name: (form, bytes)}."""
    grey, deep = image[..., 0], image[..., 0].astype(np.uint16) * 200
    planes = np.stack([grey, 255 - grey, grey // 2])
    palette = Image.fromarray(image).quantize(16)
    turned = Image.Exif()
    turned[0x112] = 6  # orientation
    ome = {"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC", "TRITC"]}, "PhysicalSizeX": 0.5}
    return {
        "grey.png": ("png", encoded(grey, "PNG")),
        "deep.png": ("png", encoded(deep, "PNG")),
        "colour.png": ("png", encoded(image, "PNG")),
        "palette.png": ("png", encoded(palette, "PNG")),
        "colour.jpg": ("", encoded(image, "JPEG", exif=turned)),
        "grey.jpeg": ("", encoded(grey, "JPEG")),
        "colour.bmp": ("", encoded(image, "BMP")),
        "grey.tif": ("tiff", tiff(grey)),
        "lzw.tif": ("tiff", tiff(image, compression="lzw", predictor=True, tile=(16, 16))),
        "jpeg.tif": ("tiff", tiff(image, compression="jpeg", photometric="rgb")),
        "float.tif": ("tiff", tiff(grey.astype(np.float32), compression="zlib")),
        "big.tif": ("tiff", tiff(deep, bigtiff=True, byteorder=">")),
        "channels.ome.tif": (
            "tiff",
            tiff(planes, ome=True, photometric="minisblack", metadata=ome),
        ),
        "imagej.tif": ("tiff", tiff(planes, imagej=True, metadata={"axes": "ZYX"})),
        "a.czi": ("", encoded(grey, "PNG")),
        "a.nd2": ("", b"\xda\xce\xbe\n" + bytes(300)),
        "a.lif": ("", b"p\0\0\0" + bytes(300)),
    }


def rings(labels):
    """The outline of each nucleus as points [x, y]."""
    masks = [(labels == number).astype(np.uint8) for number in range(1, labels.max() + 1)]
    found = [cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0] for mask in masks]
    return [contours[0][:, 0].tolist() for contours in found]


def outline_files(labels):
    """Outlines as the tools write them: {name: (form, bytes)}."""
    drawn = rings(labels)
    height, width = SHAPE
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            "properties": {"objectType": "detection"},
        }
        for ring in drawn
    ]
    flat = [[number for point in ring for number in point] for ring in drawn]
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 1, "segmentation": [ring], "iscrowd": 0}
            for number, ring in enumerate(flat, 1)
        ],
    }
    shapes = [{"label": "nucleus", "points": ring, "shape_type": "polygon"} for ring in drawn]
    labelme = {"imagePath": "a.png", "imageHeight": height, "imageWidth": width, "shapes": shapes}
    regions = "".join(
        '<Region Type="0"><Vertices>'
        + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ring)
        + "</Vertices></Region>"
        for ring in drawn
    )
    aperio = f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>"
    polygons = "".join(
        f'<polygon label="nucleus" points="{";".join(f"{x},{y}" for x, y in ring)}"/>'
        for ring in drawn
    )
    size = f'width="{width}" height="{height}"'
    cvat = f'<annotations><image id="0" name="a.png" {size}>{polygons}</image></annotations>'
    geojson = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    return {
        "a.geojson": ("json", geojson),
        "a.geojson.zip": ("zip", zipped({"a.geojson": geojson})),
        "coco.json": ("json", json.dumps(coco).encode()),
        "a.json": ("json", json.dumps(labelme).encode()),
        "aperio.xml": ("xml", aperio.encode()),
        "cvat.xml": ("xml", cvat.encode()),
        **roi_files(drawn),
    }


def roi_files(drawn):
    """ImageJ's ROIs, one and a zip: {name: (form, bytes)}; none without the package roifile."""
    try:
        import roifile
    except ModuleNotFoundError:
        return {}
    members = {
        f"{number}.roi": roifile.ImagejRoi.frompoints(np.array(ring)).tobytes()
        for number, ring in enumerate(drawn)
    }
    return {"a.roi": ("", members["0.roi"]), "rois.zip": ("zip", zipped(members))}


def truths(labels):
    """Ground truth as pixels, arrays and outlines: {name: (form, bytes)}."""
    from scipy import io as scipy_io

    matlab = io.BytesIO()
    scipy_io.savemat(matlab, {"inst_map": labels.astype(np.int32)}, do_compression=True)
    planes = np.stack([labels == number for number in range(1, labels.max() + 1)])
    colours = np.random.default_rng(1).integers(1, 255, (labels.max() + 1, 3)).astype(np.uint8)
    colours[0] = 0
    return {
        "ids.png": ("png", encoded(labels, "PNG")),
        "binary.png": ("png", encoded((labels > 0) * np.uint8(255), "PNG")),
        "colours.png": ("png", encoded(colours[labels], "PNG")),
        "soft.jpg": ("", encoded((labels > 0) * np.uint8(255), "JPEG")),
        "ids.tif": ("tiff", tiff(labels.astype(np.int32))),
        "planes.tif": ("tiff", tiff(planes.astype(np.uint8), photometric="minisblack")),
        "ids.npy": ("npy", array_file(labels)),
        "a_seg.npy": ("npy", array_file(np.array({"masks": labels, "outlines": labels}))),
        "ids.npz": ("zip", array_file(None, masks=labels, classes=labels)),
        "a.mat": ("", matlab.getvalue()),
        **outline_files(labels),
    }


def sets(image, labels):
    """Whole data sets as other people publish them: {name: (form, bytes)}."""
    members = {}
    for stem in ("id1", "id2"):
        members[f"{stem}/images/{stem}.png"] = encoded(image, "PNG")
        for number in range(1, labels.max() + 1):
            mask = (labels == number) * np.uint8(255)
            members[f"{stem}/masks/{number}.png"] = encoded(mask, "PNG")
    return {"dsb2018.zip": ("zip", zipped(members))}


def slides(image):
    """A pyramid of 2 x 3 tiles as OME-TIFF and as plain TIFF: {name: (form, bytes)}."""
    large = np.tile(image, (6, 6, 1))
    files = {}
    for name, is_ome in (("slide.ome.tif", True), ("slide.tif", False)):
        buffer = io.BytesIO()
        options = {"photometric": "rgb", "tile": (128, 128), "compression": "zlib"}
        with tifffile.TiffWriter(buffer, ome=is_ome) as file:
            sizes = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5} if is_ome else None
            file.write(large, subifds=1, metadata=sizes, **options)
            file.write(large[::2, ::2], subfiletype=1, metadata=None, **options)
        files[name] = ("tiff", buffer.getvalue())
    return files


def make_originals():
    """All whole files, a list of `Original`."""
    image, labels = draw()
    by_role = {
        "image": pictures(image),
        "truth": truths(labels),
        "archive": sets(image, labels),
        "set": {name: ("npy", array_file(array[None])) for name, array in arrays(image, labels)},
        "slide": slides(image),
    }
    return [
        Original(name, form, content, role)
        for role, files in by_role.items()
        for name, (form, content) in files.items()
    ]


def arrays(image, labels):
    """The arrays of CoNIC: names and arrays without their first axis."""
    return ("images.npy", image), ("labels.npy", np.stack([labels, labels > 0], axis=-1))


def write_pair(folder: Path, stem="good"):
    """Write a sound pair into `folder`/raw and gt, which need not exist."""
    image, labels = draw()
    for name, array in (("raw", image), ("gt", labels)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{stem}.png").write_bytes(encoded(array, "PNG"))
