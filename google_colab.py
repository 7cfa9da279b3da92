"""Train the network on Google Colab: paste this file into one cell of a notebook and run the cell.

My Drive holds images in `Unet_Data/raw`, masks of the same names in `Unet_Data/gt`. If Colab cuts
the runtime off, run the cell again: it goes on after the last finished epoch. See docs/colab.md.
"""

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import h5py
import keras
import numpy as np
import pandas as pd
from keras import ops
from keras.callbacks import BackupAndRestore, CSVLogger, LambdaCallback
from PIL import Image
from skimage import measure, segmentation
from tensorflow.config import list_physical_devices

DRIVE_FOLDER, RESULTS = "Unet_Data", "Saved_Model"  # the second lies in the first
EPOCHS = 60
BATCH_SIZE = 16  # crops in one step; halve it if the GPU runs out of memory
CROP_PX = 256  # height and width of a crop, a multiple of 32: shows ten or more nuclei
CROPS_PER_IMAGE = 2  # in one epoch, on average
WIDTH = 32  # filters of the first level; train.py's default is 16, for a processor
LEARNING_RATE = 6e-3  # the highest one, after a twentieth of the steps
VALIDATION_EVERY = 7  # one image in so many only shows how well the training goes
SEED = 7  # of all that is random
MOUNT_POINT = "/content/drive"  # where Colab shows Google Drive
SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".webp")  # of images and masks
DIAMETER_PX = 24  # every image is scaled so that its median nucleus has this diameter
THRESHOLDS = {"nucleus_threshold": 0.55, "marker_threshold": 0.3, "contact_weight": 0.75}
THRESHOLDS |= {"smoothing_px": 1.0, "min_area_px": 45, "min_probability": 0.75}  # fit most data
RGB_FROM_HED = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])  # densities
Sample = namedtuple("Sample", "image labels form group scale")  # of a pair of files


def read_sample(image_path, mask_path):
    """Read a pair: image (H, W, 3) uint8 of stretched range, labels (H, W) uint16 of the nuclei."""
    image, mask = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (image_path, mask_path))
    if image is None or image.dtype.itemsize > 2:
        sys.exit(f"{image_path} is no image of 8 or 16 bits; export it as PNG, TIFF or JPEG")
    if mask is None or mask.shape[:2] != image.shape[:2]:
        sys.exit(f"{mask_path} cannot be read, or differs from its image in height or width")
    image = image[..., 2::-1] if image.ndim == 3 else np.dstack([image] * 3)  # OpenCV: B, G, R
    low, high = np.percentile(image, (0.5, 99.8))  # sparse nuclei cover less than 1 %
    high = max(high, low + (8 if image.dtype == np.uint8 else 64))  # noise stays small
    image = np.clip((image - low) * (255 / (high - low)) + 0.5, 0, 255).astype(np.uint8)
    mask = mask[..., :3].astype(np.int64) @ (1, 1 << 16, 1 << 32) if mask.ndim == 3 else mask
    values, ids = np.unique(mask, return_inverse=True)  # a number or a colour for each nucleus
    is_binary = len(values) <= 2 or mask_path.suffix.lower() in (".jpg", ".jpeg")
    labels = measure.label(mask > values[-1] / 2) if is_binary else ids.reshape(mask.shape)
    labels, areas = labels.astype(np.uint16), np.bincount(labels.ravel())[1:]
    if not (is_binary or are_nuclei(labels)):
        sys.exit(f"{mask_path} has no ids of nuclei but soft edges or classes; save it as binary")
    scale = DIAMETER_PX / (2 * np.sqrt(np.median(areas) / np.pi)) if len(areas) else 1
    spread, is_dark = np.ptp(image, axis=-1).mean(), np.median(image.max(-1)) < 100
    group = "fluorescence" if is_dark else "tissue" if spread > 15 else "brightfield"
    return Sample(image, labels, ("ids", "binary")[is_binary], group, np.clip(scale, 0.25, 4))


def are_nuclei(labels):
    """Whether most ids are one piece, not thin, unlike those of classes, edges, soft masks."""
    pixels = labels.ravel()[np.unique(measure.label(labels), return_index=True)[1]]  # of each piece
    whole = np.flatnonzero(np.bincount(pixels)[1:] == 1) + 1
    inner = labels[cv2.erode(labels, np.ones((2, 2))) == cv2.dilate(labels, np.ones((2, 2)))]
    return len(pixels) <= 10 or 2 * np.isin(whole, inner).sum() >= labels.max()  # ten may be cut


def read_pairs(folder):
    """Read all pairs of raw/ and gt/, in the order of their names, and say what they hold."""
    raw, gt = {}, {}
    for path in sorted([*folder.glob("raw/[!.]*"), *folder.glob("gt/[!.]*")]):
        paths = raw if path.parent.name == "raw" else gt
        if path.suffix.lower() in SUFFIXES and paths.setdefault(path.stem, path) != path:
            sys.exit(f"{paths[path.stem]} and {path.name} have one name; move one of them away")
    stems, unpaired = sorted(raw.keys() & gt.keys()), sorted(raw.keys() ^ gt.keys())
    words = f"{folder}: {len(raw)} images in raw, {len(gt)} masks in gt, {len(stems)} pairs"
    if not stems:
        sys.exit(f"{words}; expected pairs of one name, such as raw/a.jpg and gt/a.png")
    with ThreadPoolExecutor(16) as pool:  # many, because Drive takes a while for each file
        samples = list(pool.map(lambda stem: read_sample(raw[stem], gt[stem]), stems))
    forms = dict(Counter(sample.form for sample in samples))
    print(f"{words}, {forms}; {len(unpaired)} files without a partner: {', '.join(unpaired[:5])}")
    return samples


def crop(sample, rng=None):
    """Image and truth (S, S, 3) float32: drawn at random, or the middle as it is without `rng`."""
    size, scale, angle = np.array(sample.labels.shape[::-1]), sample.scale, 0  # x, y
    centre = size / 2
    if rng:
        scale *= np.exp(rng.uniform(-0.35, 0.35))  # sizes differ within an image
        angle = rng.uniform(0, 360) if rng.random() < 0.5 else 90 * rng.integers(4)
        centre, nuclei = rng.uniform(0, size), np.argwhere(sample.labels[::4, ::4])
        if len(nuclei) and rng.random() < 0.7:  # near a nucleus; else anywhere, empty or not
            shift = rng.uniform(-0.25, 0.25, 2) * CROP_PX / scale
            centre = 4 * nuclei[rng.integers(len(nuclei)), ::-1] + shift
        reach = np.minimum(CROP_PX / scale, size) / 2  # mirrored borders teach little
        centre = np.clip(centre, reach, size - reach)
    matrix = cv2.getRotationMatrix2D(centre - 0.5, angle, scale)
    matrix[:, 2] += CROP_PX / 2 - centre
    image = cv2.GaussianBlur(sample.image, (0, 0), 0.4 / scale) if scale < 0.83 else sample.image
    shape, mirror = (CROP_PX, CROP_PX), cv2.BORDER_REFLECT_101
    image = cv2.warpAffine(image, matrix, shape, None, cv2.INTER_LINEAR, mirror)
    labels = cv2.warpAffine(sample.labels, matrix, shape, None, cv2.INTER_NEAREST, mirror)
    flip = -1 if rng and rng.random() < 0.5 else 1
    image, labels = image[::flip] / np.float32(255), labels[::flip].astype(np.int32)
    if rng and sample.group == "tissue" and rng.random() < 0.7:  # other amounts of the stains
        gains, offsets = rng.uniform(0.65, 1.35, 3), rng.uniform(-0.05, 0.05, 3)
        mix = np.linalg.inv(RGB_FROM_HED) @ np.diag(gains) @ RGB_FROM_HED
        density = -np.log(np.maximum(image, 1 / 255)) @ mix + offsets @ RGB_FROM_HED
        image = np.exp(-np.maximum(density, 0))
    if rng and rng.random() < 0.8:
        gamma, gain, offset = rng.uniform((-0.8, 0.7, -0.08), (0.8, 1.3, 0.08))
        image = image ** (2**gamma) * gain + offset
    if rng and rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2))
    if rng and rng.random() < 0.3:
        image = image + rng.normal(0, rng.uniform(0, 0.06), (*shape, 1))
    return np.clip(image, 0, 1).astype(np.float32), targets(labels, HEADS)


class Crops(keras.utils.PyDataset):
    """Batches of random crops; each is a function of seed, epoch and step, so a run can resume."""

    def __init__(self, samples, **threads):
        super().__init__(**threads)
        self.samples, self.epoch = samples, 0
        sizes = Counter(sample.group for sample in samples)  # 400 must not drown 14 of another kind
        shares = [sizes[s.group] ** -0.65 * max(CROP_PX, s.labels.size**0.5) for s in samples]
        self.shares = np.array(shares) / sum(shares)

    def __len__(self):
        return max(16, round(len(self.samples) * CROPS_PER_IMAGE / BATCH_SIZE))

    def __getitem__(self, step):
        rng = np.random.default_rng([SEED, self.epoch, step])
        rows = rng.choice(len(self.samples), BATCH_SIZE, p=self.shares)
        crops = [crop(self.samples[row], rng) for row in rows]
        return tuple(map(np.stack, zip(*crops, strict=True)))


CONTACT_REACH_PX = 2  # to both sides of a contact: four pixels are wide enough to learn


def distance_map(labels):
    """Compute the normalised distance to the border inside each nucleus."""
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    inside = labels > 0
    border = np.zeros(labels.shape, bool)
    for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        touch = (labels[first] != labels[second]) & inside[first] & inside[second]
        border[first] |= touch
        border[second] |= touch
    core = (inside & ~border).astype(np.uint8)
    if core.all():  # no background pixel to measure a distance to
        distance = np.ones(core.shape, np.float32)
    else:
        distance = cv2.distanceTransform(core, cv2.DIST_L2, cv2.DIST_MASK_5)  # faster than exact
    pixels = np.flatnonzero(inside)
    ids = labels.ravel()[pixels]
    distances = distance.ravel()[pixels] + border.ravel()[pixels]  # a border pixel has 1, not 0
    largest = np.ones(ids.max() + 1, np.float32)
    np.maximum.at(largest, ids, distances)
    result = np.zeros(labels.shape, np.float32)
    result.ravel()[pixels] = distances / largest[ids]
    return result


def contact_map(labels):
    """Mark where nuclei meet."""
    ids = labels.astype(np.float32)  # OpenCV cannot dilate int32; float32 is exact up to 2**24
    kernel = np.ones((2 * CONTACT_REACH_PX + 1,) * 2, np.uint8)
    highest = cv2.dilate(ids, kernel)
    lowest = cv2.erode(np.where(labels > 0, ids, np.float32(2**24)), kernel)
    return ((highest > 0) & (lowest < highest)).astype(np.float32)


def targets(labels, heads):
    """Compute the maps that the network should predict for a crop."""
    compute = {"nucleus": lambda ids: ids > 0, "distance": distance_map, "contact": contact_map}
    truth = np.empty((*labels.shape, len(heads)), np.float32)
    for channel, head in enumerate(heads):
        truth[..., channel] = compute[head](labels)
    return truth


HEADS = ("nucleus", "distance", "contact")  # maps the network can predict, in this order
DEPTH = 4  # how many times the encoder halves the size after the stem
STEM_STRIDE = 2  # 2: the first convolution halves the size; full resolution is slow on a CPU
HEAD_FILTERS = 8  # filters of the only convolution at full resolution if stem_stride is 2
START_LOGIT = -1.5  # bias of the maps: probabilities start at 0.18, near the usual share of nuclei
MOMENTUM = 0.95  # of the batch statistics: Keras's 0.99 is too slow for a few hundred steps


def build_unet(
    heads=HEADS, width=WIDTH, depth=DEPTH, stem_stride=STEM_STRIDE, normalisation="batch"
):
    """Build the encoder-decoder."""
    import keras
    from keras import layers

    if not heads or tuple(heads) != HEADS[: len(heads)]:
        raise ValueError(f"heads are {heads}; they must be the first one, two or three of {HEADS}")
    if width < 1 or depth < 1 or stem_stride not in (1, 2):
        shape = f"width {width}, depth {depth} and stem_stride {stem_stride}"
        raise ValueError(f"{shape}; expected two numbers of at least 1, and 1 or 2")
    if normalisation not in ("batch", "none"):
        raise ValueError(f'normalisation is "{normalisation}"; expected "batch" or "none"')

    def convolve(x, filters, strides=1):
        is_batch = normalisation == "batch"  # which has an offset of its own
        he = {"kernel_initializer": "he_normal", "use_bias": not is_batch}
        x = layers.Conv2D(filters, 3, strides, "same", **he)(x)
        x = layers.BatchNormalization(momentum=MOMENTUM)(x) if is_batch else x
        return layers.ReLU()(x)

    def upsample(x, filters):
        return layers.Conv2DTranspose(filters, 2, strides=2, kernel_initializer="he_normal")(x)

    image = keras.Input((None, None, 3), name="image")
    x = convolve(image, width, strides=2) if stem_stride == 2 else image
    level_filters = [width * 2**level for level in range(depth)]
    skips = []
    for filters in level_filters:
        x = convolve(convolve(x, filters), filters)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = convolve(convolve(x, width * 2**depth), width * 2**depth)  # the bottleneck
    for filters, skip in zip(reversed(level_filters), reversed(skips), strict=True):
        x = layers.Concatenate()([upsample(x, filters), skip])
        x = convolve(convolve(x, filters), filters)
    if stem_stride == 2:
        x = layers.Concatenate()([upsample(x, HEAD_FILTERS), image])
        x = convolve(x, HEAD_FILTERS)
    start = keras.initializers.Constant(START_LOGIT)
    maps = layers.Conv2D(
        len(heads), 1, activation="sigmoid", bias_initializer=start, dtype="float32", name="maps"
    )(x)
    model = keras.Model(image, maps, name="unet")
    model.jit_compile = keras.backend.backend() == "jax"
    return model


DICE_WEIGHT = 1.0  # of Dice beside the cross-entropy: sparse images have few foreground pixels
MAP_WEIGHT = 6.0  # of each map but the first: lower, and the gaps between touching nuclei come late
CONTACT_WEIGHT = 4.0  # of a pixel where two nuclei meet, in every map: such pixels are few
SMOOTH = 1.0  # pixels added to both sides of Dice, so that an empty image is defined


class SegmentationLoss(keras.losses.Loss):
    """Cross-entropy and Dice of the nucleus map, Kullback-Leibler divergence of each other map."""

    def __init__(self, heads, name="segmentation_loss"):
        super().__init__(name=name)
        self.heads = tuple(heads)

    def call(self, truth, maps):
        known = ops.cast(truth >= 0, maps.dtype)
        truth = ops.maximum(truth, 0.0)
        maps = ops.clip(maps, 1e-6, 1 - 1e-6)
        cross_entropy = -(truth * ops.log(maps) + (1 - truth) * ops.log(1 - maps))
        clipped = ops.clip(truth, 1e-6, 1 - 1e-6)
        entropy = -(clipped * ops.log(clipped) + (1 - clipped) * ops.log(1 - clipped))
        weights = known
        if "contact" in self.heads:
            contact = truth[..., self.heads.index("contact"), None]
            weights = known * (1 + (CONTACT_WEIGHT - 1) * contact)
        divergence = (cross_entropy - entropy) * weights
        num_known = ops.maximum(ops.sum(known, axis=(0, 1, 2)), 1.0)
        per_map = ops.sum(divergence, axis=(0, 1, 2)) / num_known
        nucleus, predicted = truth[..., 0] * known[..., 0], maps[..., 0] * known[..., 0]
        overlap = ops.sum(nucleus * predicted, axis=(1, 2))
        total = ops.sum(nucleus, axis=(1, 2)) + ops.sum(predicted, axis=(1, 2))
        dice_loss = 1 - ops.mean((2 * overlap + SMOOTH) / (total + SMOOTH))
        loss = per_map[0] + DICE_WEIGHT * dice_loss + MAP_WEIGHT * ops.sum(per_map[1:])
        return ops.reshape(loss, (1,))

    def get_config(self):
        return {"heads": list(self.heads), "name": self.name}


class KernelMuon(keras.optimizers.Muon):
    """Keras's Muon for convolutions: half the steps of AdamW, as nuclei/training/muon.py has it."""

    def _should_use_adamw(self, variable):
        return len(variable.shape) != 4 or variable.shape[0] == 1

    def zeropower_via_newtonschulz5(self, kernel, steps):
        matrix = ops.reshape(kernel, (-1, kernel.shape[-1]))  # of h * w * in rows
        step = super().zeropower_via_newtonschulz5(matrix, steps)
        return ops.reshape(0.2 * max(matrix.shape) ** 0.5 * step, kernel.shape)  # Adam's size


def outlined(model, images):
    """The images (N, H, W, 3) float with outlines of the nuclei found, divided at contacts."""
    nuclei = [measure.label(m[..., 0] - m[..., 2] > 0.5) for m in model.predict_on_batch(images)]
    return [segmentation.mark_boundaries(*pair) for pair in zip(images, nuclei, strict=True)]


def draw_figure(history, row):
    """One picture: a row of validation crops, below it the loss of each epoch."""
    chart = np.ones((120, row.shape[1], 3))
    for name, colour in (("loss", (0.8, 0.4, 0)), ("val_loss", (0, 0.4, 0.7))):  # orange, blue
        heights = 120 - 110 * history[name] / history[["loss", "val_loss"]].to_numpy().max()
        points = np.column_stack([np.linspace(0, row.shape[1], len(history)), heights])
        cv2.polylines(chart, [points.astype(np.int32)], False, colour, 2)
    return Image.fromarray((np.vstack([row, chart]) * 255).astype(np.uint8))


def main():
    """Open Drive, train, hand over trained_model.h5 and history.csv: one story in one function."""
    try:
        from google.colab import drive, files

        drive.mount(MOUNT_POINT)
        data = Path(MOUNT_POINT) / "MyDrive" / DRIVE_FOLDER
    except ImportError:  # at home
        files, data = None, Path(DRIVE_FOLDER)
    samples, results = read_pairs(data), data / RESULTS
    training = [sample for k, sample in enumerate(samples) if k % VALIDATION_EVERY] or samples
    held_out = [crop(sample) for sample in samples[::VALIDATION_EVERY][:256]]
    held_out = images, _ = tuple(map(np.stack, zip(*held_out, strict=True)))
    architecture = {"heads": HEADS, "width": WIDTH, "depth": DEPTH, "stem_stride": STEM_STRIDE}
    run = [architecture, EPOCHS, BATCH_SIZE, CROP_PX, CROPS_PER_IMAGE, LEARNING_RATE, SEED]
    run += [VALIDATION_EVERY, DIAMETER_PX, *(int(s.image.sum() + s.labels.sum()) for s in samples)]
    backup, log = results / "backup", Path(tempfile.mkdtemp()) / "history.csv"
    if not (backup / "run.json").exists():
        backup.mkdir(parents=True, exist_ok=True)
        (backup / "run.json").write_text(json.dumps(run))
        earlier = results / "previous" / time.strftime("%Y-%m-%d_%H-%M-%S")
        for path in [*results.glob("*.*")]:  # an earlier training is kept
            os.renames(path, earlier / path.name)  # makes the folder, too
    elif (backup / "run.json").read_text() != json.dumps(run):
        sys.exit(f"{backup} is unfinished, with other data or settings; undo these, or delete it")
    elif (results / "history.csv").exists():
        print("An unfinished training goes on")
        shutil.copyfile(results / "history.csv", log)
    has_gpu = bool(list_physical_devices("GPU"))
    keras.mixed_precision.set_global_policy("mixed_float16" if has_gpu else "float32")
    if not has_gpu:
        print("WARNING: no GPU, this takes many times as long: Runtime > Change runtime type > T4")
    keras.utils.set_random_seed(SEED)
    model = build_unet(**architecture)
    batches = Crops(training, workers=max(2, os.cpu_count()) if has_gpu else 1)
    num_steps, decay = EPOCHS * len(batches), {"weight_decay": 1e-4, "adam_weight_decay": 1e-4}
    warm = {"warmup_target": LEARNING_RATE, "warmup_steps": num_steps // 20}
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE / 100, num_steps * 19 // 20, **warm)
    optimizer = KernelMuon(rate, rms_rate=None, global_clipnorm=1, **decay)
    model.compile(optimizer, SegmentationLoss(HEADS), jit_compile=has_gpu)
    settings = {"schema": 1, "architecture": architecture, "thresholds": THRESHOLDS}
    settings |= {"versions": {"nuclei": "2.0.0", "keras": keras.__version__}}
    settings["trained_diameter_px"] = DIAMETER_PX
    show = "IPython" in sys.modules and sys.modules["IPython"].display.display
    figure = show and show(display_id=True)

    def end_epoch(epoch, logs):
        if not np.isfinite(logs["loss"]):
            sys.exit(f"the loss is {logs['loss']} in epoch {epoch + 1}; lower LEARNING_RATE")
        logging.getLogger("absl").setLevel(logging.ERROR)  # which calls .h5 a legacy format
        model.save(results / "trained_model.h5", include_optimizer=False)
        with h5py.File(results / "trained_model.h5", "r+") as file:
            file.attrs["histology_segmentation"] = json.dumps(settings)  # for predict.py
        shutil.copyfile(log, results / "history.csv")  # Drive stores a file when it is closed
        picture = draw_figure(pd.read_csv(log), np.hstack(outlined(model, images[:4])))
        picture.save(results / "preview.png")
        if figure:
            figure.update(picture)

    at_epochs = LambdaCallback(lambda epoch, _: setattr(batches, "epoch", epoch), end_epoch)
    backing = BackupAndRestore(backup, double_checkpoint=True, delete_checkpoint=False)
    callbacks = [CSVLogger(log, append=True), at_epochs, backing]
    model.fit(batches, None, None, EPOCHS, 2, callbacks, validation_data=held_out, shuffle=False)
    shutil.rmtree(backup)
    for number, sample in enumerate(samples[::VALIDATION_EVERY][:4], 1):  # whole images
        image = sample.image[: int(1024 / sample.scale), : int(1024 / sample.scale)]
        size = [32 * max(1, round(side * sample.scale / 32)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA) / np.float32(255)
        prediction = outlined(model, image[None])[0] * 255
        Image.fromarray(prediction.astype(np.uint8)).save(results / f"prediction_{number}.png")
        if show:
            show(Image.fromarray(prediction.astype(np.uint8)))
    print(f"Done: {results} holds predictions; put its trained_model.h5 into Saved_Model/ at home")
    for name in ("trained_model.h5", "history.csv") if files else ():
        files.download(str(results / name))


if __name__ == "__main__":
    main()
