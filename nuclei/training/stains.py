"""nuclei.training.stains"""

import cv2
import numpy as np

# Staining: the nuclei of a crop painted as another laboratory's bright-field stain would show them.
STAIN_AUGMENTATION_SHARE = 0.2  # of the crops, fluorescence among them: its nuclei are many and well outlined
NUCLEAR_DENSITY = (0.4, 1.4)  # optical density of the median nucleus
STRENGTH_SPREAD = 0.25  # sigma of the logarithm of each nucleus's own part of that
GROUND_DENSITY = (0.0, 0.5)  # of what lies between the nuclei, on average
STAIN_SPREAD = 0.12  # by which a component of a stain's unit vector strays
# Fluorescence, painted from bright field.
GLOW = (0.2, 0.8)  # of the median nucleus
GLOW_SPREAD = (0.1, 0.6)  # sigma of the logarithm of each nucleus's own part of that
HAZE = 0.25  # at most, of what glows between the nuclei
STAIN_GAIN = 0.35  # change of the amount of each stain
STAIN_OFFSET = 0.05  # optical density
# Ruifrok & Johnston 2001, as in scikit-image's `rgb_from_hed`: optical densities of haematoxylin, eosin and DAB.
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
MARKERS = np.array([[0.27, 0.57, 0.78], [0.21, 0.85, 0.48]], np.float32)  # of its table: DAB (brown) and fast red
EOSINS = np.array([[0.07, 0.99, 0.11], [0.2159, 0.8012, 0.5581]], np.float32)  # of that table, and of Macenko et al. 2009
HED_FROM_RGB = np.linalg.inv(RGB_FROM_HED).astype(np.float32)


def mean_channel(image):
    """The mean of the three channels of (H, W, 3) float32, (H, W) float32; NumPy's takes twenty times as long."""
    return cv2.transform(image, np.full((1, 3), 1 / 3))


def jitter_stain(image, rng):
    """Change the amounts of haematoxylin, eosin and DAB of (H, W, 3) float32 in [0, 1], in optical density.

    To stains, gain, and back to colours are three matrices in a row: one 3x3 does it.
    References: Tellez et al. 2018, "Whole-slide mitosis detection in H&E breast histology" (HED colour augmentation).
    """
    gain = np.diag(1 + rng.uniform(-STAIN_GAIN, STAIN_GAIN, 3)).astype(np.float32)
    offset = rng.uniform(-STAIN_OFFSET, STAIN_OFFSET, 3).astype(np.float32)
    fused = HED_FROM_RGB @ gain @ RGB_FROM_HED
    light = np.log(np.maximum(image, 1 / 255))  # the negative of the density, here and below
    return np.exp(np.minimum(cv2.transform(light, np.column_stack([fused.T, -(offset @ RGB_FROM_HED)])), 0))


def augment_stain(crop, labels, rng):
    """Paint a crop as bright-field stains would show its nuclei: haematoxylin and eosin, or haematoxylin and a marker.

    A marker is brown or red and lies in some of the nuclei (as Ki67) or between them (as membranes and cytoplasm). Which
    pixels are nuclei is taken from the truth; how dense they are, and in tissue what lies between them, from the crop.

    Args:
        crop: (size, size, 3) float32 in [0, 1], of any stain, or fluorescence.
        labels: (size, size) int32.

    Returns:
        (size, size, 3) float32 in [0, 1]; the crop itself where it has no nuclei, or nothing else.

    References:
        Ruifrok & Johnston 2001, "Quantification of histochemical staining by color deconvolution" (densities add up).
    """
    inside = labels > 0
    if not inside.any() or inside.all():
        return crop
    light = mean_channel(crop)
    fluorescent = light[inside].mean() > light[~inside].mean()
    amount = light if fluorescent else -np.log(np.maximum(light, 1 / 255))
    glass = np.percentile(amount[~inside][::4], 10)
    amount = np.clip((amount - glass) / max(np.median(amount[inside][::4]) - glass, 0.05), 0, 2)
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.0)
    if fluorescent:
        ground = fibres(rng, len(crop))
        if rng.random() < 0.4:  # pale nuclei with a dark rim, as large ones of tissue are; fluorescence has none of them
            amount = amount * (1 - rng.uniform(0.2, 0.8) * cv2.GaussianBlur(soft, (0, 0), rng.uniform(2, 4)) ** 2)
    else:
        ground = amount * (1 - soft)
    ground = np.minimum(ground / max(ground.mean(), 1e-3), 4)
    ground = ground + rng.uniform(0, 3) * cv2.GaussianBlur(soft, (0, 0), rng.uniform(3, 8))  # cytoplasm, around the nuclei

    def stain(base):
        vector = np.maximum(base / np.linalg.norm(base) + rng.uniform(-STAIN_SPREAD, STAIN_SPREAD, 3), 0.02)
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    blue, marker, eosin = stain(RGB_FROM_HED[0]), stain(MARKERS[rng.integers(2)]), stain(EOSINS[rng.integers(2)])
    place = rng.choice(["nowhere", "nuclei", "between"])  # of the marker
    colours = np.repeat(blue[None], labels.max() + 1, 0)
    if place == "nuclei":
        marked = rng.random(len(colours)) < rng.uniform(0.1, 0.9)
        colours[marked] = marker * rng.uniform(0.8, 1.6)
    colours *= np.exp(rng.normal(0, STRENGTH_SPREAD, (len(colours), 1)))
    colours[0] = 0
    paint = cv2.GaussianBlur(np.take(colours, labels, 0), (0, 0), 0.7)
    density = paint * (amount * rng.uniform(*NUCLEAR_DENSITY))[..., None]

    between = rng.uniform(*GROUND_DENSITY) * (eosin if place == "nowhere" else float(rng.choice([0.3, 0.1])) * blue)[None, None]
    if place == "between":
        patches = cv2.resize(rng.standard_normal((5, 5), np.float32), labels.shape[::-1], interpolation=cv2.INTER_CUBIC)
        between = between + np.clip(patches + rng.uniform(-1, 1), 0, 1)[..., None] * marker * rng.uniform(0.3, 1.5)
    ground = ground * (1 - rng.uniform(0.3, 1) * soft)  # some of it shines through the nuclei
    density += ground[..., None] * between
    density += rng.uniform(0, 0.08)
    return np.exp(-density)


def as_fluorescence(crop, labels, rng):
    """Paint a bright-field crop as fluorescence would show its nuclei: bright, each as strong as it may be, on dark ground.

    Which pixels are nuclei is taken from the truth, their texture and what little glows between them from the crop.

    Args:
        crop: (size, size, 3) float32 in [0, 1], nuclei darker than the ground.
        labels: (size, size) int32 with nuclei and ground.

    Returns:
        (size, size, 3) float32 in [0, 1], grey.
    """
    inside = labels > 0
    soft = lambda picture, low, high: cv2.GaussianBlur(picture.astype(np.float32), (0, 0), rng.uniform(low, high))
    density = -np.log(np.maximum(mean_channel(crop), 1 / 255))
    glass = np.percentile(density[~inside], 10)
    texture = soft(np.clip((density - glass) / max(np.median(density[inside]) - glass, 0.05), 0, 2), 0.5, 2)
    strengths = np.exp(rng.normal(0, rng.uniform(*GLOW_SPREAD), labels.max() + 1))
    strengths[0] = 0
    glow = soft(strengths[labels], 0.7, 1.5)
    image = rng.uniform(*GLOW) * glow * (1 + rng.uniform(0.2, 0.8) * (texture - 1))
    image += rng.uniform(0, HAZE) * soft(glow, 4, 16) + rng.uniform(0, HAZE / 2)  # out of focus, and the camera's own
    image += rng.uniform(0, HAZE / 2) * texture * (1 - soft(inside, 0.7, 1.5))
    return np.repeat(np.clip(image, 0, 1).astype(np.float32)[..., None], 3, -1)


def as_other_modality(crop, labels, rng):
    """Paint a crop as another modality would show it: `as_fluorescence` of bright field, `augment_stain` of fluorescence.

    Args, Returns: as `augment_stain`.
    """
    inside, light = labels > 0, mean_channel(crop)
    if not inside.any() or inside.all():
        return crop
    return (as_fluorescence if light[inside].mean() < light[~inside].mean() else augment_stain)(crop, labels, rng)


def fibres(rng, size):
    """Optical density of wavy bundles, as eosin shows collagen, muscle and keratin: (size, size) float32, 0 or more."""
    thickness, length = rng.uniform(1.5, 8), rng.uniform(40, 160)  # px, of a fibre
    side = 2 * size  # from which the picture is taken, turned and bent
    grid = (max(4, round(side / thickness)), max(4, round(side / length)))
    streaks = cv2.resize(rng.standard_normal(grid, np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    angle, axis = rng.uniform(0, np.pi), np.arange(size, dtype=np.float32) - (size - 1) / 2
    bends = rng.normal(0, rng.uniform(2, 20), (2, 5, 5)).astype(np.float32)
    bend_x, bend_y = (cv2.resize(part, (size, size), interpolation=cv2.INTER_CUBIC) + size for part in bends)
    x = np.float32(np.cos(angle)) * axis + np.float32(np.sin(angle)) * axis[:, None] + bend_x
    y = np.float32(np.cos(angle)) * axis[:, None] - np.float32(np.sin(angle)) * axis + bend_y
    streaks = cv2.remap(streaks, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    patches = cv2.resize(rng.standard_normal((6, 6), np.float32), (size, size), interpolation=cv2.INTER_CUBIC)  # and glass
    return np.clip(0.5 + 0.3 * streaks + rng.uniform(0, 0.6) * patches, 0, None) * rng.uniform(0.2, 1.2)
