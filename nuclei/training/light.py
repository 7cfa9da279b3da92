"""nuclei.training.light"""

import cv2
import numpy as np

from nuclei.training.stains import jitter_stain, mean_channel

# Light. Each with its share of the crops; images are stretched to [0, 1] before.
GAIN = (0.7, 1.3)
OFFSET = 0.08
GAMMA = 0.55  # exponent drawn as exp(uniform(-GAMMA, GAMMA)): 0.58 to 1.73
LIGHT_SHARE = 0.8
SHADING_SHARE = 0.2  # uneven illumination
POLARITY_SHARE = 0.1  # grey images only: dark nuclei on a bright field
TINT_SHARE = 0.15  # grey images only: false-coloured fluorescence
GREY_SHARE = 0.1  # colour images only
STAIN_SHARE = 0.7  # colour images only
SHUFFLE_SHARE = 0.1  # colour images only: channels in another order (brown, green and red stains)
BLUR_SHARE = 0.2
BLUR_SIGMA_PX = (0.4, 2.0)
NOISE_SHARE = 0.3
NOISE_SIGMA = 0.06
JPEG_SHARE = 0.15
JPEG_QUALITY = (25, 90)


def is_grey(image, tolerance=0.02):
    """Whether a float image (H, W, 3) in [0, 1] has no colour to speak of."""
    some = np.ascontiguousarray(image[::4, ::4])
    return bool(np.abs(some - mean_channel(some)[..., None]).mean() < tolerance)


def change_light(image, rng):
    """Draw a change of colour, light and sharpness of (H, W, 3) float32 in [0, 1]; shape, dtype and range stay."""
    if is_grey(image):
        if rng.random() < POLARITY_SHARE:
            image = 1 - image
        if rng.random() < TINT_SHARE:
            tint = rng.uniform(0, 1, 3)
            image = image * (tint / tint.max()).astype(np.float32)
    else:
        if rng.random() < STAIN_SHARE:
            image = jitter_stain(image, rng)
        if rng.random() < SHUFFLE_SHARE:
            image = image[..., rng.permutation(3)]
        if rng.random() < GREY_SHARE:
            image = np.repeat(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None], 3, -1)
    if rng.random() < LIGHT_SHARE:
        image = cv2.pow(np.clip(image, 0, 1), np.exp(rng.uniform(-GAMMA, GAMMA)))
        image *= np.float32(rng.uniform(*GAIN))
        image += np.float32(rng.uniform(-OFFSET, OFFSET))
    if rng.random() < SHADING_SHARE:
        light = rng.uniform(0.5, 1.2, (3, 3)).astype(np.float32)
        image = image * cv2.resize(light, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)[..., None]
    if rng.random() < BLUR_SHARE:
        image = cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), rng.uniform(*BLUR_SIGMA_PX))
    if rng.random() < NOISE_SHARE:
        grain = np.empty(image.shape[:2] + (1 if is_grey(image) else 3,), np.float32)
        cv2.setRNGSeed(int(rng.integers(2**31)))  # of this thread
        cv2.randn(grain, 0, rng.uniform(0, NOISE_SIGMA))  # in a quarter of the time that NumPy takes
        image = image + grain
    image = np.clip(image, 0, 1)
    if rng.random() < JPEG_SHARE:
        quality = int(rng.integers(*JPEG_QUALITY))
        code = cv2.imencode(".jpg", (image * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = cv2.imdecode(code, cv2.IMREAD_COLOR).astype(np.float32) / 255  # channel order is kept both ways
    return image.astype(np.float32)
