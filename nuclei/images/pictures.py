"""PNG, JPEG and BMP files, and TIFFs of compressions that tifffile cannot decode, by Pillow."""

from pathlib import Path

import numpy as np
from PIL import Image

from nuclei.images.content import ORIENTATION_TAG, Content, hidden_indices, refuse_bomb, upright
from nuclei.images.pixel_size import MICRONS, MPP_LIMITS

BITS_PER_SAMPLE_TAG = 258  # of TIFF
PICTURE_KINDS = ("PNG", "JPEG", "BMP")  # as Pillow calls them
GIT_LFS = b"version https://git-lfs"
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def read_picture(path: Path, head: bytes) -> Content:
    """Read a PNG, JPEG or BMP.

    Args:
        path: the file.
        head: its first bytes.

    Raises:
        ValueError: it declares too many pixels, or is a picture of another kind.
    """
    Image.MAX_IMAGE_PIXELS = None  # Pillow's limit of 89 MP is too low; `refuse_bomb` has ours
    refuse_other_kinds(path, head)
    with Image.open(path, formats=PICTURE_KINDS) as image:
        refuse_bomb(path, (image.height, image.width))
        image.load()  # raises on a damaged file, where OpenCV below would return a part
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
        lossy = image.format in ("JPEG", "MPO")
        mpp, indices = picture_mpp(image), palette_indices(image)
        # OpenCV reads colour of 16 bits, which Pillow would cut to 8.
        is_deep = head[:8] == PNG_HEAD and head[24] == 16 and head[25] & 6
        pixels = read_deep_colour(path) if is_deep else decoded(path, image)
    if pixels.ndim == 3 and pixels.shape[2] == 2:  # grey of 16 bits with alpha
        pixels = pixels[..., 0]
    pixels = upright(pixels, orientation)
    if indices is not None:
        indices = upright(indices, orientation)
    return Content(pixels, "YXS"[: pixels.ndim], lossy, (), mpp, indices=indices)


def refuse_other_kinds(path: Path, head: bytes) -> None:
    """Raise ValueError, with the way out, for a whole file that is not damaged but of another kind.

    Args:
        path: the file.
        head: its first bytes.
    """
    if head.startswith(GIT_LFS):
        raise ValueError(f"{path} is a pointer of Git LFS in place of the file; run git lfs pull")
    try:
        with Image.open(path) as image:
            kind = image.format
    except (OSError, ValueError, SyntaxError):  # no picture, or a damaged one: reading it says so
        return
    if kind not in (*PICTURE_KINDS, "MPO"):
        raise ValueError(
            f"{path} is a {kind} picture; expected png, tif, jpg or bmp: save it as png or tif"
        )


def palette_indices(image: Image.Image) -> np.ndarray | None:
    """The indices of a picture with a palette whose colours do not tell them apart, else None."""
    if image.mode != "P" or image.palette is None:
        return None
    palette = np.array(image.getpalette("RGB"), np.uint8)
    return hidden_indices(np.array(image), palette.reshape(-1, 3))


def decoded(path: Path, image: Image.Image, is_single: bool = True) -> np.ndarray:
    """The pixels of an open picture, as (H, W) or (H, W, 3 or 4).

    Args:
        path: of the file, which OpenCV opens where Pillow would cut 16 bits to 8.
        image: the picture, at the page that is wanted.
        is_single: whether the file is read for this page alone.
    """
    refuse_bomb(path, (image.height, image.width))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    elif image.mode in ("LA", "CMYK", "YCbCr"):
        image = image.convert("RGBA" if image.mode == "LA" else "RGB")
    elif image.mode == "LAB":
        raise ValueError(f"{path} is a compressed CIELAB image; export it as RGB")
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE_TAG, ())
    if 16 in bits and image.mode.startswith("RGB") and is_single:
        image.load()
        return read_deep_colour(path)
    pixels = np.array(image)
    if pixels.dtype.kind == "u":
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return pixels


def read_deep_colour(path: Path) -> np.ndarray:
    """Colour of 16 bits, which Pillow would cut to 8, as (H, W, 3 or 4), or (H, W)."""
    import cv2  # late: few files need it, and the import takes a while

    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 2:
        return pixels
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]  # from BGR(A)


def picture_mpp(image: Image.Image) -> float | None:
    """µm per pixel by the dots per inch of a PNG, JPEG or BMP; None where they are no microscope's.

    Nearly every such file states 72, 96 or 300 dots per inch, which no microscope has.
    """
    dots = image.info.get("dpi")
    if image.info.get("jfif_unit") == 0 and "jfif_density" in image.info:
        return None
    try:
        x, y = (MICRONS["inch"] / float(value) for value in dots)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    is_plausible = all(MPP_LIMITS[0] <= value <= MPP_LIMITS[1] for value in (x, y))
    return (x * y) ** 0.5 if is_plausible else None
