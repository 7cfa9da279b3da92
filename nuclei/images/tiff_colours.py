"""What the samples of a TIFF stand for: colours, channels, alpha, ink or the axes of CIELAB."""

import numpy as np

GREYS = ("MINISBLACK", "MINISWHITE", "PALETTE", "MASK")  # photometrics of one sample
COLOURS = ("RGB", "SEPARATED", "CIELAB", "ICCLAB", "YCBCR")  # photometrics of several


def with_meaning(path, tiff, page, photometric: str, pixels, axes: str):
    """(pixels, axes) with the colours that the values stand for: palette, inverted, CMYK, CIELAB.

    Raises:
        ValueError: there is no such number of samples.
    """
    if photometric == "PALETTE" and page.colormap is not None and "S" not in axes:
        return palette_of(page)[pixels], f"{axes}S"
    if photometric == "MINISWHITE" and pixels.dtype.kind in "bu":
        # ImageJ's inverting display table also sets this, on masks whose nuclei are 255.
        return (pixels if tiff.is_imagej else ~pixels), axes
    if photometric not in ("SEPARATED", "CIELAB", "ICCLAB"):
        return pixels, axes
    least = 4 if photometric == "SEPARATED" else 3
    position = axes.find("S")
    if position < 0 or pixels.shape[position] < least or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{path} is a TIFF of the kind {photometric} with shape {pixels.shape} and dtype "
            f"{pixels.dtype}; expected {least} samples of 8 or 16 bits: export it as RGB"
        )
    samples = np.moveaxis(pixels, position, -1)[..., :least]
    convert = from_cmyk if photometric == "SEPARATED" else from_lab
    return convert(samples, photometric), axes.replace("S", "") + "S"


def palette_of(page) -> np.ndarray:
    """The colours of a palette, (n, 3) uint8. Some programs write 8 bits in place of 16."""
    colours = np.moveaxis(page.colormap, 0, -1)
    return (colours if colours.max(initial=0) <= 255 else colours >> 8).astype(np.uint8)


def from_cmyk(samples: np.ndarray, _: str) -> np.ndarray:
    """RGB of cyan, magenta, yellow and black ink (..., 4), without a colour profile."""
    white = np.iinfo(samples.dtype).max
    light = 1 - samples.astype(np.float32) / white
    return (light[..., :3] * light[..., 3:] * white).round().astype(samples.dtype)


def from_lab(samples: np.ndarray, photometric: str) -> np.ndarray:
    """RGB (sRGB) of CIELAB (..., 3) as TIFF stores it: a and b signed, or with an offset (ICC)."""
    from skimage.color import lab2rgb

    white = np.iinfo(samples.dtype).max
    step = 1 if samples.dtype == np.uint8 else 256
    lightness = samples[..., 0].astype(np.float32) * (100 / white)
    if photometric == "ICCLAB":
        chroma = samples[..., 1:].astype(np.float32) / step - 128
    else:
        chroma = samples[..., 1:].view(f"i{samples.dtype.itemsize}").astype(np.float32) / step
    rgb = lab2rgb(np.concatenate([lightness[..., None], chroma], axis=-1))
    return (rgb * white).round().astype(samples.dtype)


def without_alpha(page, pixels: np.ndarray, axes: str) -> tuple[np.ndarray, str]:
    """(pixels, axes) where samples that are no colours are called channels, C.

    An alpha sample of a grey image is dropped, as microscopes write it constant. An RGB file whose
    alpha takes many values holds four channels: some programs write every array of four so.
    """
    position = axes.find("S")
    if position < 0:
        return pixels, axes
    photometric = getattr(page.photometric, "name", "")
    num_colours = pixels.shape[position]
    num_alpha = sum(getattr(sample, "value", sample) in (1, 2) for sample in page.extrasamples)
    if photometric in GREYS and photometric != "PALETTE":
        pixels = np.moveaxis(pixels, position, -1)[..., : max(1, num_colours - num_alpha)]
        if pixels.shape[-1] == 1:
            return pixels[..., 0], axes.replace("S", "")
        return pixels, axes.replace("S", "") + "C"
    if num_colours in (3, 4):
        samples = np.moveaxis(pixels, position, -1)
        is_data = num_colours == 4 and not is_alpha(samples[..., 3]) and "C" not in axes
        return samples, axes.replace("S", "") + ("C" if is_data else "S")
    return pixels, axes.replace("S", "C" if "C" not in axes else "Q")


def is_alpha(sample: np.ndarray) -> bool:
    """Whether most pixels of a fourth sample are fully transparent or opaque, or all are equal."""
    if sample.dtype.kind == "f":
        lowest, highest = 0.0, 1.0
    else:
        lowest, highest = 0, np.iinfo(sample.dtype).max
    extreme = (sample == lowest) | (sample == highest)
    return bool(extreme.mean() > 0.5 or (sample == sample.flat[0]).all())
