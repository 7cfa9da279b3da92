"""The one writer of image files: PNG, JPEG and WebP, and labels.

    write_png("a.png", mask)
    write_jpeg("a.jpg", overlay)
    write_labels(Path("labels"), "a", labels)       # labels/a.png, or a.tif where 16 bits are few

Pictures are RGB here, (H, W, 3), or grey, (H, W). A file is written whole or not at all. OpenCV is
imported late, since checking a data set does not need it.
"""

from pathlib import Path

import numpy as np

from nuclei.files import remove, replacing, require_free

JPEG_QUALITY = 85  # of overlays, which nobody measures on
MAX_JPEG_PX = 65_500  # of a side; the format has 16 bits for it, libraries a little less
MAX_PNG_LABELS = 65_535  # nuclei that 16 bits can number


def encode(picture, suffix: str, options=()) -> bytes:
    """Encode a picture.

    Args:
        picture: (H, W) grey or (H, W, 3) RGB, uint8, or uint16 for PNG.
        suffix: ".png", ".jpg" or ".webp".
        options: pairs of an OpenCV `IMWRITE_...` flag and its value, in one flat sequence.

    Raises:
        ValueError: OpenCV cannot encode such a picture.
    """
    import cv2

    bgr = picture if picture.ndim == 2 else picture[..., ::-1]  # OpenCV's order
    try:
        good, code = cv2.imencode(suffix, np.ascontiguousarray(bgr), list(options))
    except cv2.error:
        good = False
    if not good:
        raise ValueError(
            f"a picture of shape {picture.shape} and type {picture.dtype} cannot be written as "
            f"{suffix}"
        )
    return code.tobytes()


def write_picture(path, picture, options=()) -> None:
    """Write a picture in the format that the suffix of the path names.

    Args:
        path: the file.
        picture, options: as of `encode`.
    """
    path = Path(path)
    try:
        content = encode(picture, path.suffix, options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_png(path, picture) -> None:
    """Write a mask, labels or another picture with large areas of one value as PNG, fast."""
    import cv2

    # Faster than OpenCV's defaults, and a third smaller for masks and labels.
    run_lengths = (cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
    write_picture(path, picture, (cv2.IMWRITE_PNG_COMPRESSION, 3, *run_lengths))


def write_jpeg(path, picture) -> None:
    """Write a picture as JPEG, for the eye only.

    Colours keep their full resolution (4:4:4): a coloured line of two pixels would fade otherwise.
    A picture that is too long for the format is made smaller.
    """
    import cv2

    longest_px = max(picture.shape[:2])
    if longest_px > MAX_JPEG_PX:
        size = [max(1, length * MAX_JPEG_PX // longest_px) for length in picture.shape[1::-1]]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    write_picture(path, picture, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, *sampling))


def in_16_bits(labels):
    """Labels (H, W) as uint16. Raises: ValueError, where it cannot number them all."""
    if labels.max(initial=0) > MAX_PNG_LABELS:
        raise ValueError(
            f"{labels.max():,} nuclei, more than the {MAX_PNG_LABELS:,} that a PNG can number; "
            "cut the image into smaller ones"
        )
    return labels.astype(np.uint16)


def find_labels(folder: Path, stem: str) -> Path:
    """The label image that `write_labels` wrote: STEM.tif where there is one, else STEM.png."""
    large = folder / f"{stem}.tif"
    return large if large.is_file() else folder / f"{stem}.png"


def write_labels(folder: Path, stem: str, labels) -> None:
    """Write labels as 16-bit PNG, or as 32-bit TIFF where there are too many for 16 bits.

    A file of the other kind, which an earlier run may have left, is removed.

    Args:
        folder: of the label images.
        stem: of the file.
        labels: (H, W) integers, 0 background, 1...n.
    """
    small, large = folder / f"{stem}.png", folder / f"{stem}.tif"
    require_free(small, large)  # else one is written and the other stays: two of one stem
    if labels.max() <= MAX_PNG_LABELS:
        write_png(small, labels.astype(np.uint16, copy=False))
        remove(large)
    else:
        import tifffile

        with replacing(large) as temporary:
            tifffile.imwrite(temporary, labels.astype(np.uint32), compression="zlib")
        remove(small)
