"""Stain augmentation: how the nuclei of a crop would look in another stain or another modality.

Which pixels are nuclei is taken from the labels; texture and background are taken from the crop or
drawn. `jitter_stain` changes the stains that are there, `augment_stain` gives a crop the look of
another bright-field stain, and `as_fluorescence` that of fluorescence. Stains are added as optical
densities, the negative logarithms of transmitted light (Beer-Lambert).

References:
    Ruifrok & Johnston 2001, "Quantification of histochemical staining by color deconvolution".
"""

import cv2
import numpy as np

STAIN_AUGMENTATION_SHARE = 0.2  # of the crops, also of fluorescence, whose nuclei are well outlined
STAIN_GAIN = 0.35  # largest relative change of the amount of each stain
STAIN_OFFSET = 0.05  # largest shift of each stain, in optical density
NUCLEAR_DENSITY = (0.4, 1.4)  # optical density of the median nucleus
STRENGTH_SPREAD = 0.25  # sigma of the logarithm of a nucleus's own factor of density
TISSUE_DENSITY = (0.0, 0.5)  # mean optical density of what lies between the nuclei
STAIN_SPREAD = 0.12  # largest change of a component of a stain's unit vector
PALE_CENTRE_SHARE = 0.4  # of the fluorescence crops: large nuclei of tissue are pale inside
GLOW = (0.2, 0.8)  # brightness of the median nucleus in fluorescence
GLOW_SPREAD = (0.1, 0.6)  # sigma of the logarithm of a nucleus's own factor of brightness
HAZE = 0.25  # largest brightness of the background in fluorescence
DARKEST = 1 / 255  # black is taken as this, so that its optical density is finite

# Optical densities of red, green and blue, as in scikit-image's `rgb_from_hed` (Ruifrok &
# Johnston); rows are haematoxylin, eosin and DAB.
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
HED_FROM_RGB = np.linalg.inv(RGB_FROM_HED).astype(np.float32)
# Immunostains of the same table: DAB (brown) and fast red.
CHROMOGENS = np.array([[0.27, 0.57, 0.78], [0.21, 0.85, 0.48]], np.float32)
# Eosin of the same table, and of Macenko et al. 2009.
EOSINS = np.array([[0.07, 0.99, 0.11], [0.2159, 0.8012, 0.5581]], np.float32)


def mean_channel(image):
    """Average the three channels of (H, W, 3) float32: (H, W) float32. Much faster than NumPy."""
    return cv2.transform(image, np.full((1, 3), 1 / 3))


def optical_density(light):
    """Convert transmitted light in [0, 1] to optical density."""
    return -np.log(np.maximum(light, DARKEST))


def blur(image, sigma_px):
    """Blur an image or mask (H, W) or (H, W, K) by a Gaussian."""
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def jitter_stain(image, rng):
    """Change the amounts of haematoxylin, eosin and DAB in an image.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        rng: `numpy.random.Generator`.

    Returns:
        (H, W, 3) float32 in [0, 1].

    References:
        Tellez et al. 2018, "Whole-slide mitosis detection in H&E breast histology".
    """
    gain = np.diag(1 + rng.uniform(-STAIN_GAIN, STAIN_GAIN, 3)).astype(np.float32)
    offset = rng.uniform(-STAIN_OFFSET, STAIN_OFFSET, 3).astype(np.float32)
    # Colours to stains, gain, and stains to colours are three matrices: one product does it all.
    matrix = HED_FROM_RGB @ gain @ RGB_FROM_HED
    log_light = np.log(np.maximum(image, DARKEST))  # the negative of the density, here and below
    shift = -(offset @ RGB_FROM_HED)
    return np.exp(np.minimum(cv2.transform(log_light, np.column_stack([matrix.T, shift])), 0))


def augment_stain(crop, labels, rng):
    """Show the nuclei of a crop in a bright-field stain: H&E, or haematoxylin and an immunostain.

    The immunostain is brown or red. It lies in some of the nuclei (like Ki67) or between them (like
    membranes and cytoplasm).

    Args:
        crop: (size, size, 3) float32 in [0, 1], of any stain, or fluorescence.
        labels: (size, size) int32.
        rng: `numpy.random.Generator`.

    Returns:
        (size, size, 3) float32 in [0, 1]; `crop` itself where it has no nuclei, or nothing else.
    """
    inside = labels > 0
    if not inside.any() or inside.all():
        return crop
    soft_inside = blur(inside.astype(np.float32), 1.0)
    amount, tissue = amounts_in(crop, inside, soft_inside, rng)
    haematoxylin = vary_stain(RGB_FROM_HED[0], rng)
    chromogen = vary_stain(CHROMOGENS[rng.integers(2)], rng)
    eosin = vary_stain(EOSINS[rng.integers(2)], rng)
    place = rng.choice(["nowhere", "nuclei", "between"])  # of the immunostain

    colours = np.repeat(haematoxylin[None], labels.max() + 1, 0)
    if place == "nuclei":
        stained = rng.random(len(colours)) < rng.uniform(0.1, 0.9)
        colours[stained] = chromogen * rng.uniform(0.8, 1.6)
    colours *= np.exp(rng.normal(0, STRENGTH_SPREAD, (len(colours), 1)))
    colours[0] = 0  # the background
    density = blur(np.take(colours, labels, 0), 0.7)
    density = density * (amount * rng.uniform(*NUCLEAR_DENSITY))[..., None]

    tissue_density = rng.uniform(*TISSUE_DENSITY)
    if place == "nowhere":
        between = (tissue_density * eosin)[None, None]
    else:
        between = (tissue_density * (float(rng.choice([0.3, 0.1])) * haematoxylin))[None, None]
    if place == "between":
        patches = np.clip(cloud(rng, 5, len(labels)) + rng.uniform(-1, 1), 0, 1)[..., None]
        between = between + patches * chromogen * rng.uniform(0.3, 1.5)
    tissue = tissue * (1 - rng.uniform(0.3, 1) * soft_inside)  # some of it shows through the nuclei
    density += tissue[..., None] * between
    density += rng.uniform(0, 0.08)
    return np.exp(-density)


def amounts_in(crop, inside, soft_inside, rng):
    """Estimate how dense each nucleus pixel is, and how much tissue lies at each pixel.

    Args:
        crop: (size, size, 3) float32 in [0, 1].
        inside: (size, size) bool, the nuclei.
        soft_inside: (size, size) float32, the same with soft borders.
        rng: `numpy.random.Generator`.

    Returns:
        (amount, tissue), both (size, size) float: amount is 1 at the median nucleus, tissue has a
        mean of about 1. Fluorescence does not show tissue, so fibres are drawn for it.
    """
    light = mean_channel(crop)
    if light[inside].mean() > light[~inside].mean():  # fluorescence
        amount = relative_amount(light, inside, every=4)
        tissue = fibres(rng, len(crop))
        if rng.random() < PALE_CENTRE_SHARE:
            paleness = rng.uniform(0.2, 0.8)
            amount = amount * (1 - paleness * blur(soft_inside, rng.uniform(2, 4)) ** 2)
    else:
        amount = relative_amount(optical_density(light), inside, every=4)
        tissue = amount * (1 - soft_inside)
    tissue = np.minimum(tissue / max(tissue.mean(), 1e-3), 4)
    cytoplasm = rng.uniform(0, 3) * blur(soft_inside, rng.uniform(3, 8))  # around the nuclei
    return amount, tissue + cytoplasm


def relative_amount(amount, inside, every=1):
    """Scale amounts so that the background is 0 and the median nucleus 1; clipped to [0, 2].

    Args:
        amount: (H, W) float, light or optical density.
        inside: (H, W) bool with pixels of both kinds.
        every: only each so many-th pixel is counted, which is faster.
    """
    background = np.percentile(amount[~inside][::every], 10)
    nucleus = np.median(amount[inside][::every])
    return np.clip((amount - background) / max(nucleus - background, 0.05), 0, 2)


def vary_stain(vector, rng):
    """Change a stain's colour a little: (3,) float32 of length 1, from (3,) optical densities."""
    vector = vector / np.linalg.norm(vector) + rng.uniform(-STAIN_SPREAD, STAIN_SPREAD, 3)
    vector = np.maximum(vector, 0.02)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def as_fluorescence(crop, labels, rng):
    """Show the nuclei of a bright-field crop as fluorescence: bright on a dark background.

    Texture and what little glows between the nuclei are taken from the crop.

    Args:
        crop: (size, size, 3) float32 in [0, 1], nuclei darker than the background.
        labels: (size, size) int32 with nuclei and background.
        rng: `numpy.random.Generator`.

    Returns:
        (size, size, 3) float32 in [0, 1], grey.
    """
    inside = labels > 0
    texture = relative_amount(optical_density(mean_channel(crop)), inside)
    texture = blur(texture.astype(np.float32), rng.uniform(0.5, 2))
    strengths = np.exp(rng.normal(0, rng.uniform(*GLOW_SPREAD), labels.max() + 1))
    strengths[0] = 0  # the background
    glow = blur(strengths[labels].astype(np.float32), rng.uniform(0.7, 1.5))
    image = rng.uniform(*GLOW) * glow * (1 + rng.uniform(0.2, 0.8) * (texture - 1))
    # Light that is out of focus, and the camera's offset.
    image += rng.uniform(0, HAZE) * blur(glow, rng.uniform(4, 16)) + rng.uniform(0, HAZE / 2)
    autofluorescence = rng.uniform(0, HAZE / 2) * texture
    image += autofluorescence * (1 - blur(inside.astype(np.float32), rng.uniform(0.7, 1.5)))
    return np.repeat(np.clip(image, 0, 1).astype(np.float32)[..., None], 3, -1)


def as_other_modality(crop, labels, rng):
    """Show bright field as fluorescence (`as_fluorescence`) and fluorescence as bright field.

    Arguments and result are those of `augment_stain`.
    """
    inside, light = labels > 0, mean_channel(crop)
    if not inside.any() or inside.all():
        return crop
    if light[inside].mean() < light[~inside].mean():
        return as_fluorescence(crop, labels, rng)
    return augment_stain(crop, labels, rng)


def fibres(rng, size):
    """Draw wavy bundles, as eosin shows collagen, muscle and keratin.

    Returns:
        (size, size) float32 optical densities, 0 or more.
    """
    thickness_px, length_px = rng.uniform(1.5, 8), rng.uniform(40, 160)  # of one fibre
    side = 2 * size  # straight streaks on a larger square, which is then turned and bent
    grid = (max(4, round(side / thickness_px)), max(4, round(side / length_px)))
    streaks = rng.standard_normal(grid, np.float32)
    streaks = cv2.resize(streaks, (side, side), interpolation=cv2.INTER_CUBIC)
    angle, axis = rng.uniform(0, np.pi), np.arange(size, dtype=np.float32) - (size - 1) / 2
    bends = rng.normal(0, rng.uniform(2, 20), (2, 5, 5)).astype(np.float32)
    bend_x, bend_y = (
        cv2.resize(bend, (size, size), interpolation=cv2.INTER_CUBIC) + size for bend in bends
    )
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x = cosine * axis + sine * axis[:, None] + bend_x
    y = cosine * axis[:, None] - sine * axis + bend_y
    streaks = cv2.remap(streaks, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    patches = cloud(rng, 6, size)  # between them lies empty background
    density = np.clip(0.5 + 0.3 * streaks + rng.uniform(0, 0.6) * patches, 0, None)
    return density * rng.uniform(0.2, 1.2)


def cloud(rng, num_points, size):
    """Draw smooth noise: (size, size) float32, from num_points x num_points control points."""
    points = rng.standard_normal((num_points, num_points), np.float32)
    return cv2.resize(points, (size, size), interpolation=cv2.INTER_CUBIC)
