"""Random changes of colour, brightness, sharpness and noise of a training crop.

Each change has its share of the crops (`..._SHARE`) and a range. Images are stretched to [0, 1]
before and stay in it, so a microscope's exposure, gain or compression hardly matters to the model.
A JPEG file is the exception: it is encoded before anything stretches it, and loses most where it is
dim, as fluorescence often is.
"""

import cv2
import numpy as np

from nuclei.training.stains import jitter_stain, mean_channel

LIGHT_SHARE = 0.8  # of the crops change in gamma, gain and offset
GAMMA = 0.55  # the exponent is exp(uniform(-GAMMA, GAMMA)): 0.58 to 1.73
GAIN = (0.7, 1.3)  # factor of brightness
OFFSET = 0.08  # largest shift of brightness, of the full range
SHADING_SHARE = 0.2  # of the crops are lit unevenly
SHADING = (0.5, 1.2)  # brightness at the 3 x 3 control points of uneven light
POLARITY_SHARE = 0.1  # of the grey crops are inverted: dark nuclei on a bright field
TINT_SHARE = 0.15  # of the grey crops take a colour, as false-coloured fluorescence has
GREY_SHARE = 0.1  # of the coloured crops lose their colour
STAIN_SHARE = 0.7  # of the coloured crops change in the amounts of their stains
SHUFFLE_SHARE = 0.1  # of the coloured crops swap channels: unusual stains
BLUR_SHARE = 0.2  # of the crops are blurred
BLUR_SIGMA_PX = (0.4, 2.0)
NOISE_SHARE = 0.3  # of the crops get noise
NOISE_SIGMA = 0.06  # largest standard deviation of the noise, of the full range
JPEG_SHARE = 0.2  # of the crops show the blocks of a JPEG file
JPEG_QUALITY = (25, 90)
JPEG_CONTRAST = 0.1  # lowest contrast of a grey JPEG file, of the full range: dim fluorescence
GREY_TOLERANCE = 0.02  # mean distance of the channels from their mean, of the full range


def is_grey(image, tolerance=GREY_TOLERANCE):
    """Whether a float image (H, W, 3) in [0, 1] has hardly any colour."""
    thinned = np.ascontiguousarray(image[::4, ::4])
    return bool(np.abs(thinned - mean_channel(thinned)[..., None]).mean() < tolerance)


def change_light(image, rng):
    """Draw a change of colour, light and sharpness.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        rng: `numpy.random.Generator`.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    image = change_grey(image, rng) if is_grey(image) else change_colour(image, rng)
    if rng.random() < LIGHT_SHARE:
        image = cv2.pow(np.clip(image, 0, 1), np.exp(rng.uniform(-GAMMA, GAMMA)))
        image *= np.float32(rng.uniform(*GAIN))
        image += np.float32(rng.uniform(-OFFSET, OFFSET))
    if rng.random() < SHADING_SHARE:
        shading = rng.uniform(*SHADING, (3, 3)).astype(np.float32)
        shading = cv2.resize(shading, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        image = image * shading[..., None]
    if rng.random() < BLUR_SHARE:
        image = cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), rng.uniform(*BLUR_SIGMA_PX))
    if rng.random() < NOISE_SHARE:
        image = image + noise(image, rng)
    image = np.clip(image, 0, 1)
    if rng.random() < JPEG_SHARE:
        contrast = JPEG_CONTRAST ** rng.uniform(0, 1) if is_grey(image) else 1.0
        image = compress(image, int(rng.integers(*JPEG_QUALITY)), contrast)
    return image.astype(np.float32)


def change_grey(image, rng):
    """Invert or tint a grey crop (H, W, 3) float32 in [0, 1], each with its share."""
    if rng.random() < POLARITY_SHARE:
        image = 1 - image
    if rng.random() < TINT_SHARE:
        tint = rng.uniform(0, 1, 3)
        image = image * (tint / tint.max()).astype(np.float32)
    return image


def change_colour(image, rng):
    """Change stains, swap channels or remove the colour of a coloured crop, each with its share.

    Arguments and result are those of `change_light`.
    """
    if rng.random() < STAIN_SHARE:
        image = jitter_stain(image, rng)
    if rng.random() < SHUFFLE_SHARE:
        image = image[..., rng.permutation(3)]
    if rng.random() < GREY_SHARE:
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
        image = np.repeat(grey[..., None], 3, -1)
    return image


def noise(image, rng):
    """Draw Gaussian noise for an image: (H, W, 3) float32, or (H, W, 1) for a grey image."""
    grain = np.empty((*image.shape[:2], 1 if is_grey(image) else 3), np.float32)
    # OpenCV draws faster than NumPy. Its generator belongs to the thread: seed it each time.
    cv2.setRNGSeed(int(rng.integers(2**31)))
    cv2.randn(grain, 0, rng.uniform(0, NOISE_SIGMA))
    return grain


def compress(image, quality, contrast=1.0):
    """Encode an image as JPEG and decode it again.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        quality: of the file, 1 to 100.
        contrast: share of the full range that the image has in the file.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    pixels = (image * (255 * contrast) + 0.5).astype(np.uint8)
    code = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1]
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)
    return np.minimum(decoded / (255 * contrast), 1)
