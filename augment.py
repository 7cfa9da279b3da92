"""One random transform, applied alike to an image and its truth; and the batches that training is fed.

    rng = np.random.default_rng(7)
    crop, crop_labels = augment(image, labels, rng, size=256)     # image float32 in [0, 1], labels int32
    truth = targets(crop_labels, heads=("nucleus", "distance"))   # what the network learns to paint

    for images, truths in batches(samples, size=256, batch_size=8, seed=0): ...   # endless, for `model.fit`

Every batch is a function of (seed, step) alone: the same run can be repeated, stopped and resumed at any step.
Geometry is one coordinate map for crop, flip, rotation, scale, shear and elastic bending together, so the image is
interpolated once and the labels follow it to the pixel.
"""

import contextlib
import ctypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import cv2
import numpy as np

ECHO = 2  # times that a crop is shown, each time turned otherwise
ECHO_STEPS = 8  # of training between two of these
REHEARSAL_STREAM = 2**32 - 1  # in place of a step: of random numbers that no step takes
UNKNOWN = -1.0  # truth of a pixel that must not teach; the losses leave it out

# Geometry.
DIAMETER_PX = 24  # median nucleus diameter that every image is brought to, so that one size has to be learned, not all
SCALE = (0.7, 1.4)  # times that: sizes differ within an image, and prediction only estimates them
SCALE_LIMITS = (0.25, 4)  # never further than this from native: resampling makes or destroys detail
CENTRE_SHARE = 0.7  # of the crops are centred near a nucleus, the others lie anywhere: empty ones included, not dominating
NOTHING_SHARE = 0.05  # of the crops show no cells at all: noise, writing, fibres. Without them, text is full of nuclei
GROUP_POWER = 0.35  # a kind of image is drawn by this power of its number: 417, 82 and 14 images become 53, 30 and 16 %
ROTATE_SHARE = 0.5  # of the crops get any angle and shear, the others a multiple of 90 degrees (no interpolation of edges)
SHEAR = 0.12
ELASTIC_SHARE = 0.25
ELASTIC_GRID_PX = 48  # distance of the control points
ELASTIC_STRENGTH = 0.08  # standard deviation of a control point's shift, in control point distances

# Crowding: nuclei of one crop laid among those of another of the same image, where they touch and overlap.
CROWD_SHARE = 0.3  # of the crops
CROWD_TRIES = 4  # places of which the one with most contacts is taken
CROWD_OVERLAP = 0.3  # of a nucleus at most that another one covers
CROWD_EDGE_PX = 1.0  # sigma of the edge along which what is laid on fades

# Staining: the nuclei of a crop painted as another laboratory's bright-field stain would show them.
RESTAIN_SHARE = 0.2  # of the crops, fluorescence among them: its nuclei are many and well outlined
NUCLEAR_DENSITY = (0.4, 1.4)  # optical density of the median nucleus
STRENGTH_SPREAD = 0.25  # sigma of the logarithm of each nucleus's own part of that
GROUND_DENSITY = (0.0, 0.5)  # of what lies between the nuclei, on average
STAIN_SPREAD = 0.12  # by which a component of a stain's unit vector strays

# Fluorescence, painted from bright field.
GLOW = (0.2, 0.8)  # of the median nucleus
GLOW_SPREAD = (0.1, 0.6)  # sigma of the logarithm of each nucleus's own part of that
HAZE = 0.25  # at most, of what glows between the nuclei

CONTACT_REACH_PX = 2  # of a pixel to both nuclei that it parts: a line of some four pixels, wide enough to be learned

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
STAIN_GAIN = 0.35  # change of the amount of each stain
STAIN_OFFSET = 0.05  # optical density
SHUFFLE_SHARE = 0.1  # colour images only: channels in another order (brown, green and red stains)
BLUR_SHARE = 0.2
BLUR_SIGMA_PX = (0.4, 2.0)
NOISE_SHARE = 0.3
NOISE_SIGMA = 0.06
JPEG_SHARE = 0.15
JPEG_QUALITY = (25, 90)

STRESSES = (
    "as it is", "brightness x0.5", "brightness x1.5", "contrast x0.5", "gamma 0.5", "gamma 2", "blur 1.5 px", "noise",
    "JPEG 30", "stain", "polarity", "16 bit", "scale x0.5", "scale x2",
)  # fmt: skip

# Ruifrok & Johnston 2001, as in scikit-image's `rgb_from_hed`: optical densities of haematoxylin, eosin and DAB.
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
MARKERS = np.array([[0.27, 0.57, 0.78], [0.21, 0.85, 0.48]], np.float32)  # of its table: DAB (brown) and fast red
EOSINS = np.array([[0.07, 0.99, 0.11], [0.2159, 0.8012, 0.5581]], np.float32)  # of that table, and of Macenko et al. 2009
HED_FROM_RGB = np.linalg.inv(RGB_FROM_HED).astype(np.float32)


@dataclass
class Sample:
    """One training image: `image` (H, W, 3) uint8 or uint16 as on disk, its `intensity_range` (low, high) that becomes
    [0, 1], `labels` (H, W) int32, the `group` that it is balanced by, its median nucleus `diameter_px` (None without
    nuclei), and whether its labels tell touching nuclei apart (`has_instances`)."""

    image: np.ndarray
    intensity_range: tuple
    labels: np.ndarray
    group: str = ""
    diameter_px: float | None = None
    has_instances: bool = True


@dataclass
class Rehearsal:
    """What a model knows already, to be trained beside what it shall learn: `crops` (N, size, size, 3), what it paints on
    them, `truths` (N, size, size, K), both float32, and the `share` of all crops that is drawn from these."""

    crops: np.ndarray
    truths: np.ndarray
    share: float


def reflect(position, length):
    """Fold positions outside of [0, length - 1] back inside, mirror-wise and as often as needed."""
    if length == 1:
        return np.zeros_like(position)
    period = 2.0 * (length - 1)
    position = np.abs(position)
    if position.max() > period:  # seldom, and the remainder is what takes the time
        position %= period
    return np.minimum(position, period - position)


def zoom_to_diameter(diameter_px):
    """How many times larger to show an image whose median nucleus has this diameter; 1 where it is None (no nuclei)."""
    return float(np.clip(DIAMETER_PX / diameter_px, *SCALE_LIMITS)) if diameter_px else 1.0


def random_coordinates(labels, rng, size, diameter_px=None):
    """Draw where each pixel of a crop comes from.

    Args:
        labels: (H, W) int32; crops are centred near nuclei.
        size: height and width of the crop.
        diameter_px: median nucleus diameter of the image, or None.

    Returns:
        (rows, columns), each (size, size) float32 positions inside the image, and the number of source pixels that one
        crop pixel spans.
    """
    height, width = labels.shape
    step = 1 / (zoom_to_diameter(diameter_px) * np.exp(rng.uniform(*np.log(SCALE))))

    row, column = rng.uniform(0, height), rng.uniform(0, width)
    if rng.random() < CENTRE_SHARE:
        inside = np.flatnonzero(labels[:: max(1, height // 256), :: max(1, width // 256)] > 0)
        if len(inside):
            coarse_width = len(range(0, width, max(1, width // 256)))
            at = inside[rng.integers(len(inside))]
            row = at // coarse_width * max(1, height // 256) + rng.uniform(-0.25, 0.25) * size * step
            column = at % coarse_width * max(1, width // 256) + rng.uniform(-0.25, 0.25) * size * step
    # Where the image is larger than the crop, keep the crop inside it: mirrored borders teach little.
    reach = size * step / 2
    row = np.clip(row, reach, height - reach) if height > 2 * reach else height / 2
    column = np.clip(column, reach, width - reach) if width > 2 * reach else width / 2

    angle = rng.integers(4) * np.pi / 2
    matrix = np.eye(2)
    if rng.random() < ROTATE_SHARE:
        angle = rng.uniform(0, 2 * np.pi)
        matrix = matrix + rng.uniform(-SHEAR, SHEAR, (2, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    flip = np.diag([1, rng.choice([-1, 1])])
    matrix = (turn @ flip @ matrix * step).astype(np.float32)

    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    y, x = axis[:, None], axis[None, :]
    rows = (matrix[0, 0] * y + np.float32(row - 0.5)) + matrix[0, 1] * x
    columns = (matrix[1, 0] * y + np.float32(column - 0.5)) + matrix[1, 1] * x
    if rng.random() < ELASTIC_SHARE:
        points = max(4, round(size / ELASTIC_GRID_PX) + 1)
        shift = rng.normal(0, ELASTIC_STRENGTH * ELASTIC_GRID_PX * step, (2, points, points)).astype(np.float32)
        rows += cv2.resize(shift[0], (size, size), interpolation=cv2.INTER_CUBIC)
        columns += cv2.resize(shift[1], (size, size), interpolation=cv2.INTER_CUBIC)
    return reflect(rows, height), reflect(columns, width), step


def sample_at(image, labels, rows, columns, step):
    """Read image (bilinear, smoothed first where it shrinks) and labels (nearest) at the given positions.

    Returns:
        (size, size, 3) float32 in the units of the image, and (size, size) int32.
    """
    # Only the part of the image that is needed is touched; one pixel around it for the interpolation.
    top, left = max(0, int(rows.min()) - 2), max(0, int(columns.min()) - 2)
    bottom, right = int(rows.max()) + 4, int(columns.max()) + 4
    part = np.ascontiguousarray(image[top:bottom, left:right], dtype=np.float32)
    if step > 1.2:
        part = cv2.GaussianBlur(part, (0, 0), 0.4 * step, borderType=cv2.BORDER_REFLECT_101)
    x, y = columns - np.float32(left), rows - np.float32(top)  # OpenCV's maps are x, then y
    crop = cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ids = labels[top:bottom, left:right].astype(np.float32)  # OpenCV reads no int32; float32 is exact up to 2**24
    return crop, cv2.remap(ids, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE).astype(np.int32)


def mean_channel(image):
    """The mean of the three channels of (H, W, 3) float32, (H, W) float32; NumPy's takes twenty times as long."""
    return cv2.transform(image, np.full((1, 3), 1 / 3))


def is_grey(image, tolerance=0.02):
    """Whether a float image (H, W, 3) in [0, 1] has no colour to speak of."""
    some = np.ascontiguousarray(image[::4, ::4])
    return bool(np.abs(some - mean_channel(some)[..., None]).mean() < tolerance)


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


def augment(image, labels, rng, size, diameter_px=None):
    """One random crop of an image and its labels, transformed alike.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        labels: (H, W) int32, 0 is background.
        rng: a `numpy.random.Generator`; all that is random comes from it.
        size: height and width of the crop.
        diameter_px: median nucleus diameter of the image, which becomes DIAMETER_PX; None leaves the native scale.

    Returns:
        (size, size, 3) float32 in [0, 1] and (size, size) int32 with the ids of `labels`.
    """
    rows, columns, step = random_coordinates(labels, rng, size, diameter_px)
    crop, crop_labels = sample_at(image, labels, rows, columns, step)
    return change_light(crop, rng), crop_labels


def crowd(crop, labels, other, other_labels, rng):
    """Lay whole nuclei of one crop on another of the same image, where they touch those that are there and hide little.

    Args:
        crop, other: (size, size, 3) float32, in the units of the image.
        labels, other_labels: (size, size) int32.

    Returns:
        The crop and labels with them, of the same shapes and dtypes; what is laid on has ids of its own.

    References:
        Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation".
    """
    whole = np.ones(other_labels.max() + 1, bool)
    whole[0] = whole[np.concatenate([other_labels[[0, -1]].ravel(), other_labels[:, [0, -1]].ravel()])] = False
    if not whole.any():
        return crop, labels
    first_id = labels.max() + 1
    areas, other_areas = np.bincount(labels.ravel()), np.bincount(other_labels.ravel())
    best = None
    for _ in range(CROWD_TRIES):
        shift = rng.integers(len(labels), size=2)
        moved = np.roll(other_labels, shift, (0, 1))
        allowed = whole.copy()
        for one, other_side in ((moved[0], moved[-1]), (moved[:, 0], moved[:, -1])):
            seen = np.zeros(len(whole), bool)
            seen[one] = True
            allowed[other_side[seen[other_side]]] = False  # a part of it came in again on the other side
        both = np.flatnonzero((labels > 0) & (moved > 0))
        pairs, hidden = np.unique(moved.ravel()[both].astype(np.int64) * first_id + labels.ravel()[both], return_counts=True)
        upper, lower = np.divmod(pairs, first_id)
        allowed[upper[hidden > CROWD_OVERLAP * np.minimum(areas[lower], other_areas[upper])]] = False
        contacts = np.count_nonzero(allowed[upper])
        if best is None or contacts > best[0]:
            best = contacts, shift, moved, allowed[moved]
    _, shift, moved, laid = best
    if not laid.any():
        return crop, labels
    moved_crop = np.roll(other, shift, (0, 1))
    if rng.random() < 0.5:  # translucent, as nuclei above one another are: the brighter counts, in transmitted light the darker
        brighter = other[other_labels > 0].mean() > other.mean()
        moved_crop = np.maximum(crop, moved_crop) if brighter else np.minimum(crop, moved_crop)
    share = cv2.GaussianBlur(cv2.dilate(laid.astype(np.float32), np.ones((3, 3))), (0, 0), CROWD_EDGE_PX)[..., None]
    return crop + share * (moved_crop - crop), np.where(laid, moved + first_id, labels).astype(np.int32)


def restain(crop, labels, rng):
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


def fluoresce(crop, labels, rng):
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


def other_look(crop, labels, rng):
    """Paint a crop as another modality would show it: `fluoresce` of bright field, `restain` of fluorescence.

    Args, Returns: as `restain`.
    """
    inside, light = labels > 0, mean_channel(crop)
    if not inside.any() or inside.all():
        return crop
    return (fluoresce if light[inside].mean() < light[~inside].mean() else restain)(crop, labels, rng)


def nucleus_distance(labels):
    """Depth inside each nucleus: 0 outside, rising from its border to 1 at its deepest pixel.

    Args:
        labels: (H, W) int32, 0 is background.

    Returns:
        (H, W) float32 in [0, 1]. The border to a touching nucleus counts as border; the edge of the image does not.

    References:
        Scherr et al. 2020, "Cell segmentation and tracking using CNN-based distance predictions" (normalised distances).
    """
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    # A pixel whose right or lower neighbour has another id lies on a border; both sides of a contact are borders.
    inside = labels > 0
    contact = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        first, second = [slice(None)] * 2, [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        touch = (labels[tuple(first)] != labels[tuple(second)]) & inside[tuple(first)] & inside[tuple(second)]
        contact[tuple(first)] |= touch
        contact[tuple(second)] |= touch
    core = (inside & ~contact).astype(np.uint8)
    # By steps to neighbours and knights' moves: within 2 % of the exact distance, in a third of the time.
    depth = cv2.distanceTransform(core, cv2.DIST_L2, cv2.DIST_MASK_5) if not core.all() else np.ones(core.shape, np.float32)
    places = np.flatnonzero(inside)
    ids, depths = labels.ravel()[places], depth.ravel()[places] + contact.ravel()[places]  # contact is nucleus: depth 1, not 0
    deepest = np.ones(ids.max() + 1, np.float32)
    np.maximum.at(deepest, ids, depths)  # all depths inside are 1 or more
    painted = np.zeros(labels.shape, np.float32)
    painted.ravel()[places] = depths / deepest[ids]
    return painted


def nucleus_contact(labels):
    """Where nuclei meet: 1 within CONTACT_REACH_PX of two different nuclei, in them or between them, else 0.

    Args:
        labels: (H, W) int32, 0 is background, ids below 16 million.

    Returns:
        (H, W) float32 of 0 and 1.

    References:
        Caicedo et al. 2019, "Nucleus segmentation across imaging experiments": the borders between touching nuclei were a
        class of their own in the winning network of the Data Science Bowl 2018.
    """
    ids = labels.astype(np.float32)  # OpenCV's morphology knows no int32; float32 is exact up to 2**24
    kernel = np.ones((2 * CONTACT_REACH_PX + 1,) * 2, np.uint8)
    highest = cv2.dilate(ids, kernel)
    lowest = cv2.erode(np.where(labels > 0, ids, np.float32(2**24)), kernel)
    return ((highest > 0) & (lowest < highest)).astype(np.float32)


def targets(labels, heads, has_instances=True):
    """What the network should paint for a crop.

    Args:
        labels: (H, W) int32.
        heads: names of the maps: "nucleus" (1 in a nucleus), "distance" (`nucleus_distance`), "contact"
            (`nucleus_contact`).
        has_instances: False where touching nuclei share an id: every map but the first is then unknown (-1).

    Returns:
        (H, W, len(heads)) float32 in [0, 1], or -1 for unknown.
    """
    painters = {
        "nucleus": lambda: labels > 0,
        "distance": lambda: nucleus_distance(labels),
        "contact": lambda: nucleus_contact(labels),
    }
    truth = np.empty(labels.shape + (len(heads),), np.float32)
    for channel, head in enumerate(heads):
        truth[..., channel] = painters[head]() if has_instances or head == "nucleus" else UNKNOWN
    return truth


def draw_nothing(rng, size):
    """A picture without cells, (size, size, 3) float32 in [0, 1]: empty, grain, noise, stripes, writing, stained fibres."""
    kind = rng.choice(["empty", "grain", "noise", "stripes", "writing", "fibres", "fibres"])
    if kind == "fibres":
        eosin = EOSINS[0] + rng.uniform(0, 1) * (EOSINS[1] - EOSINS[0])
        stain = eosin + rng.uniform(0, 0.3) * RGB_FROM_HED[0]
        return np.exp(-(fibres(rng, size)[..., None] * stain + rng.uniform(0, 0.1)))
    paper, ink = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
    if rng.random() < 0.5:
        paper, ink = np.repeat(paper[:1], 3), np.repeat(ink[:1], 3)
    amount = np.zeros((size, size), np.float32)  # of ink
    if kind == "grain":
        amount = rng.standard_normal((size, size), np.float32) * np.float32(rng.uniform(0.1, 0.5)) + 0.5
    elif kind == "noise":  # amplitude falling with frequency to the power of -1 or less: rough at every scale, without blobs
        frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) + 1 / size
        wave = np.fft.rfft2(rng.standard_normal((size, size))) * frequency ** -rng.uniform(0.2, 1.0)
        amount = np.fft.irfft2(wave, s=(size, size))
        amount = 0.5 + 0.2 * (amount - amount.mean()) / amount.std()
    elif kind == "stripes":
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 40)
        phase = (np.arange(size)[:, None] * np.cos(angle) + np.arange(size)[None] * np.sin(angle)) * 2 * np.pi / period
        amount = 0.5 + 0.5 * np.sin(phase)
        amount = (amount > 0.5) * 1.0 if rng.random() < 0.5 else amount
    elif kind == "writing":
        scale, thickness = rng.uniform(0.3, 2.0), int(rng.integers(1, 4))
        height, sheet = round(30 * scale), np.zeros((size, size), np.uint8)
        for row in range(height, size + height, height):
            text = "".join(chr(letter) for letter in rng.integers(33, 123, 200))
            cv2.putText(sheet, text, (0, row), int(rng.integers(0, 8)), scale, 255, thickness, cv2.LINE_AA)
        amount = sheet / np.float32(255)
    return np.clip(paper + np.clip(amount, 0, 1)[..., None] * (ink - paper), 0, 1).astype(np.float32)


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


def sampling_shares(samples, size):
    """How often each sample is drawn: groups by a power of their number, and in a group by the square root of area.

    Neither lets 400 fluorescence images drown 14 bright-field ones, nor shows those 14 as often as the 400.

    Returns:
        (len(samples),) float64, adding up to 1.
    """
    area = np.array([max(1.0, sample.labels.size / size**2) ** 0.5 for sample in samples])
    groups = np.array([sample.group for sample in samples])
    shares = np.zeros(len(samples))
    for group in np.unique(groups):
        member = groups == group
        shares[member] = area[member] / area[member].sum() * member.sum() ** GROUP_POWER
    return shares / shares.sum()


def draw_pair(samples, shares, size, rng):
    """A crop of a sample as it is but for its place: image (size, size, 3) float32 in [0, 1], labels (size, size), sample."""
    sample = samples[rng.choice(len(samples), p=shares)]
    rows, columns, source_step = random_coordinates(sample.labels, rng, size, sample.diameter_px)
    crop, labels = sample_at(sample.image, sample.labels, rows, columns, source_step)
    if sample.has_instances and rng.random() < CROWD_SHARE:
        more = random_coordinates(sample.labels, rng, size, sample.diameter_px)
        crop, labels = crowd(crop, labels, *sample_at(sample.image, sample.labels, *more), rng)
    low, high = sample.intensity_range
    crop -= np.float32(low)
    crop /= np.float32(high - low)
    return np.clip(crop, 0, 1, out=crop), labels, sample


def turn(array, turns, mirrored=False):
    """A square array (size, size, K) float32, mirrored top to bottom or not, then turned by so many right angles.

    By OpenCV, whose copies cost a training nothing that can be measured; those of `np.rot90` cost it 5 %.
    """
    array = cv2.flip(array, 0) if mirrored else array
    return (cv2.rotate(array, turns - 1) if turns else array).reshape(len(array), len(array), -1)


def draw(samples, shares, heads, size, seed, step, place, rehearsal=None):
    """The crop at `place` of the batch at `step`: image (size, size, 3) and truth (size, size, K), float32."""
    rng = np.random.default_rng([seed, step, place])
    if rehearsal is not None and rng.random() < rehearsal.share:
        k, turns = rng.integers(len(rehearsal.crops)), rng.integers(4)
        return turn(rehearsal.crops[k], turns), turn(rehearsal.truths[k], turns)
    if rng.random() < NOTHING_SHARE:
        crop, labels = draw_nothing(rng, size), np.zeros((size, size), np.int32)
        return change_light(crop, rng), targets(labels, heads)
    crop, labels, sample = draw_pair(samples, shares, size, rng)
    if rng.random() < RESTAIN_SHARE:
        crop = restain(crop, labels, rng)
    return change_light(crop, rng), targets(labels, heads, sample.has_instances)


def rehearsal_crops(samples, size, number, seed):
    """Crops that show the samples in another modality, for a model to say what it knows of that: `Rehearsal`.

    Returns:
        (number, size, size, 3) float32 in [0, 1].

    References:
        Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal"; Li & Hoiem 2016, "Learning without Forgetting"
        (the model's own output as the truth of what it shall not forget).
    """
    shares, crops = sampling_shares(samples, size), []
    for index in range(number):
        rng = np.random.default_rng([seed, REHEARSAL_STREAM, index])
        crop, labels, _ = draw_pair(samples, shares, size, rng)
        crops.append(change_light(other_look(crop, labels, rng), rng))
    return np.stack(crops)


def keep_freed_memory():
    """Let glibc keep up to 64 MB that arrays leave behind for the next ones, as it comes to do by itself.

    TensorFlow (2.21), once a generator feeds it, has all above 128 kB given back to the system at once: each crop then fetched
    some 2,300 pages of 4 kB anew, and training on two cores took 5 % longer. Where there is no glibc, nothing happens.
    """
    with contextlib.suppress(AttributeError, TypeError, OSError):
        set_option = ctypes.CDLL(None).mallopt
        for option, value in ((-1, 2**26), (-3, 2**25)):  # M_TRIM_THRESHOLD; M_MMAP_THRESHOLD, of which it is the highest
            set_option(option, value)


def batches(samples, heads, size, batch_size, seed, first_step=0, places=None, rehearsal=None, echo=ECHO, workers=2, ahead=4):
    """Yield training batches without end, made on threads while the network works on the one before.

    One place in `echo` of a batch holds a new crop; the others show, turned or mirrored, one that was new ECHO_STEPS, twice
    ECHO_STEPS ... before: drawing takes its time, and a turned crop is nearly as good as a new one.

    Args:
        samples: list of `Sample`.
        places: a range of the batch to make alone, for one of several processes that share it; default the whole batch.
            What is at a place does not depend on who makes it.
        first_step: the step to begin with: a resumed run sees the batches that it would have seen.
        rehearsal: a `Rehearsal` of which some of the crops are taken, or None.
        echo: how many times each crop is shown.
        workers: threads; OpenCV and NumPy release Python's lock for most of the work. Beside a network on a CPU one is enough.
        ahead: batches prepared in advance.

    Yields:
        (B, size, size, 3) and (B, size, size, len(heads)), float32, where B is batch_size or the number of places.

    References:
        Choi et al. 2019, "Faster Neural Network Training with Data Echoing", https://arxiv.org/abs/1907.05550
    """
    cv2.setNumThreads(1)  # the threads are ours
    shares = sampling_shares(samples, size)

    places = list(places or range(batch_size))
    # By which step and place of its own `draw` knows the crop that is shown at each place.
    keys_of = lambda step: [(step + (echo - 1 - place % echo) * ECHO_STEPS, place // echo) for place in places]

    def look(pair, step, place):
        if place % echo == 0:
            return pair
        turns, mirrored = divmod(int(np.random.default_rng([seed, step, place]).integers(8)), 2)
        return [turn(array, turns, mirrored) for array in pair]

    with ThreadPoolExecutor(workers) as pool:
        drawn = {}  # on their way or there: all that this batch and the next ones show
        for step in count(first_step):
            for later in range(step, step + ahead + 1):
                for key in keys_of(later):
                    if key not in drawn:
                        drawn[key] = pool.submit(draw, samples, shares, heads, size, seed, *key, rehearsal)
            shown = [look(drawn[key].result(), step, place) for key, place in zip(keys_of(step), places, strict=True)]
            drawn = {key: value for key, value in drawn.items() if key[0] > step}
            keep_freed_memory()  # not once for all: TensorFlow comes in after the first batch
            yield tuple(np.stack(arrays) for arrays in zip(*shown, strict=True))


# --- Fixed changes, to test what a model bears: `evaluate.py --stress` ------------------------------------------------


def stress(name, image, labels):
    """One of STRESSES, in a fixed strength, without chance but for noise, which is the same for equal images.

    Args:
        name: of STRESSES.
        image: (H, W, 3) uint8 or uint16.
        labels: (H, W) int32.

    Returns:
        image and labels, of another size for "scale x0.5" and "scale x2"; None where the change means nothing to this
        image: another colour to a grey image, inverted polarity to a coloured one.
    """
    top = np.float32(np.iinfo(image.dtype).max)
    light = image.astype(np.float32) / top
    low, high = np.percentile(light, (0.5, 99.5))
    grey = is_grey(light)
    if name.startswith("scale"):
        factor = 0.5 if name == "scale x0.5" else 2.0
        size = tuple(max(1, round(length * factor)) for length in labels.shape[::-1])  # OpenCV: width first
        way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        rows, columns = (
            np.minimum(((np.arange(n) + 0.5) / factor).astype(int), m - 1)
            for n, m in zip(size[::-1], labels.shape, strict=True)
        )
        return cv2.resize(image, size, interpolation=way), labels[np.ix_(rows, columns)]
    if name == "16 bit":  # a 12-bit camera's values in a 16-bit file
        return (light * 4095).astype(np.uint16), labels
    if name == "JPEG 30":
        code = cv2.imencode(".jpg", (light * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
        return cv2.imdecode(code, cv2.IMREAD_COLOR), labels
    if (name == "polarity") != grey and name in ("polarity", "stain"):
        return None
    rng = np.random.default_rng(image.size)
    changed = {
        "as it is": lambda: light,
        "brightness x0.5": lambda: light * 0.5,
        "brightness x1.5": lambda: light * 1.5,
        "contrast x0.5": lambda: light.mean() + 0.5 * (light - light.mean()),
        "gamma 0.5": lambda: light**0.5,
        "gamma 2": lambda: light**2,
        "blur 1.5 px": lambda: cv2.GaussianBlur(light, (0, 0), 1.5),
        "noise": lambda: light + (high - low) * 0.08 * rng.standard_normal(light.shape[:2] + (1 if grey else 3,), np.float32),
        "stain": lambda: shift_stain(light),
        "polarity": lambda: 1 - light,
    }[name]()
    return (np.clip(changed, 0, 1) * top + 0.5).astype(image.dtype), labels


def shift_stain(image):
    """More haematoxylin, less eosin, and a hue turned by 20 degrees of (H, W, 3) float32 in [0, 1]."""
    density = -np.log(np.maximum(image, 1 / 255)) @ HED_FROM_RGB
    image = np.exp(-np.maximum((density * np.array([1.3, 0.7, 1], np.float32)) @ RGB_FROM_HED, 0)).astype(np.float32)
    hue = cv2.cvtColor(np.clip(image, 0, 1), cv2.COLOR_RGB2HSV)
    hue[..., 0] = (hue[..., 0] + 20) % 360
    return cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)
