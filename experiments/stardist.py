"""Train StarDist on the same images for so many minutes, and predict: a row of docs/scores.md.

    python -m venv sd                                          # Python 3.9 to 3.11
    sd/bin/pip install "stardist==0.9.2" "tensorflow==2.15.1" "numpy<2" pandas
    sd/bin/python -m experiments.stardist RAW INSTANCES SPLIT.csv --minutes 30 --out predicted
    python evaluate.py predicted INSTANCES --split SPLIT.csv --groups SPLIT.csv

With `--curve 5 10` it also predicts with the best weights after 5 and 10 minutes, into
predicted/after_5 and predicted/after_10.

StarDist 2D has its own defaults (32 rays, grid 2, U-Net of 32 filters and depth 3, patches of 256
px, batches of 4, Adam at 3e-4) and the augmentation of its example notebook: flips, quarter turns,
brightness. The images have three channels, scaled by their percentiles 1 and 99.8. Its thresholds
are chosen on the validation images by its own search. This program runs in an environment of its
own, so it imports nothing of this project.

References:
    Schmidt, Weigert, Broaddus, Myers 2018, "Cell Detection with Star-Convex Polygons";
    https://github.com/stardist/stardist
"""

import argparse
import csv
import shutil
import time
from pathlib import Path

import numpy as np
from PIL import Image

STEPS = 100  # of an epoch, StarDist's default
EPOCHS = 400  # more than there is time for: the minutes end the training
VALIDATION_PART = 4  # every fourth image validates an epoch; all would take as long as the epoch


def read_pairs(raw, instances, stems):
    """Read images and labels.

    Args:
        raw, instances: folders.
        stems: names of the images without suffix.

    Returns:
        Lists of (H, W, 3) float32 images, scaled, and of (H, W) uint16 labels.
    """
    from csbdeep.utils import normalize

    images, labels = [], []
    for stem in stems:
        image = Image.open(next(Path(raw).glob(f"{stem}.*"))).convert("RGB")
        images.append(normalize(np.asarray(image, np.float32), 1, 99.8, axis=(0, 1, 2)))
        labels.append(np.asarray(Image.open(Path(instances) / f"{stem}.png")).astype(np.uint16))
    return images, labels


def augment(image, labels):
    """Flip, turn and change the brightness of an image, as StarDist's example does."""
    rng = np.random.default_rng()
    num_turns = rng.integers(4)
    image, labels = np.rot90(image, num_turns), np.rot90(labels, num_turns)
    if rng.random() < 0.5:
        image, labels = image[::-1], labels[::-1]
    return image * rng.uniform(0.6, 2) + rng.uniform(-0.2, 0.2), labels


def make_clock(minutes, curve, out):
    """Make the Keras callback that ends the training and keeps the best weights on the way.

    Args:
        minutes: after which the training ends.
        curve: minutes after which the best weights so far are copied to `out`/after_MINUTES.h5.
        out: folder with StarDist's own folder `model`.
    """
    import keras

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.started, self.waiting = time.monotonic(), sorted(curve)

        def on_train_batch_end(self, batch, logs=None):
            passed = (time.monotonic() - self.started) / 60
            best = out / "model" / "weights_best.h5"
            while self.waiting and passed > self.waiting[0]:
                name = f"after_{self.waiting.pop(0):g}"
                if best.is_file():
                    shutil.copy(best, out / f"{name}.h5")
            if passed > minutes:
                self.model.stop_training = True

    return Clock()


def predict(model, stems, images, labels, folder):
    """Choose the thresholds of a StarDist model, and write label images of its predictions."""
    model.optimize_thresholds(images, labels)
    folder.mkdir(parents=True, exist_ok=True)
    for stem, image in zip(stems, images):  # noqa: B905, this also runs on Python 3.9
        predicted, _ = model.predict_instances(image, n_tiles=model._guess_n_tiles(image))
        Image.fromarray(predicted.astype(np.uint16)).save(folder / f"{stem}.png")


def parse_arguments(argv):
    """Read the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("raw", help="folder of images")
    parser.add_argument("instances", help="folder of their label images")
    parser.add_argument("split", help="CSV with the columns stem and split")
    parser.add_argument(
        "--minutes", type=float, default=30, help="of training (default %(default)s)"
    )
    parser.add_argument(
        "--curve",
        type=float,
        nargs="*",
        default=[],
        metavar="MINUTES",
        help="predict with the best weights after so many minutes, too (default: at the end only)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("stardist"), help="results (default %(default)s)"
    )
    return parser.parse_args(argv)


def main(argv=None):
    """Train StarDist and write its predictions."""
    args = parse_arguments(argv)
    from stardist.models import Config2D, StarDist2D

    with open(args.split, newline="", encoding="utf-8") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (Path(args.instances) / f"{row['stem']}.png").is_file()
        ]
    stems = {
        part: [row["stem"] for row in rows if row["split"] == part]
        for part in ("train", "validation")
    }
    images, labels = read_pairs(args.raw, args.instances, stems["train"])
    validation = read_pairs(args.raw, args.instances, stems["validation"])
    print(f"{len(images)} images to train on, {len(validation[0])} to validate", flush=True)
    config = Config2D(
        n_channel_in=3,
        grid=(2, 2),
        train_epochs=EPOCHS,
        train_steps_per_epoch=STEPS,
        train_tensorboard=False,
    )
    model = StarDist2D(config, name="model", basedir=str(args.out))
    model.prepare_for_training()
    model.callbacks.append(make_clock(args.minutes, args.curve, args.out))
    some = tuple(part[::VALIDATION_PART] for part in validation)
    model.train(images, labels, validation_data=some, augmenter=augment)
    predict(model, stems["validation"], *validation, args.out / "labels")
    for weights in sorted(args.out.glob("after_*.h5")):
        model.keras_model.load_weights(str(weights))
        predict(model, stems["validation"], *validation, args.out / weights.stem / "labels")


if __name__ == "__main__":
    main()
