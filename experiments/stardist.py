"""Train StarDist on the same images for so many minutes, and predict: a row for the table of scores.

    python -m venv sd && sd/bin/pip install "stardist==0.9.2" "tensorflow==2.15.1" "numpy<2" pandas     # Python 3.9 to 3.11
    sd/bin/python tests/stardist_baseline.py RAW INSTANCES SPLIT.csv --minutes 30 --out found
    python evaluate.py found INSTANCES --split SPLIT.csv --groups SPLIT.csv
    sd/bin/python tests/stardist_baseline.py RAW INSTANCES SPLIT.csv --minutes 20 --curve 5 10 --out found  # and after_5 ...

StarDist 2D by its own defaults (32 rays, grid 2, U-Net of 32 filters and depth 3, patches of 256 px, batches of 4, Adam at
3e-4), with the augmentation of its example notebook: flips, quarter turns, brightness. The images come in three channels,
scaled by their percentiles 1 and 99.8; its thresholds are chosen on the validation images by its own search. Runs in an
environment of its own, so it imports nothing of this project.

References:
    Schmidt, Weigert, Broaddus, Myers 2018, "Cell Detection with Star-Convex Polygons"; https://github.com/stardist/stardist
"""

import argparse
import csv
import shutil
import time
from pathlib import Path

import numpy as np
from PIL import Image

STEPS = 100  # of an epoch, as StarDist has it
EPOCHS = 400  # more than there is time for: the minutes end it


def read(raw, truth, stems):
    """Images, (H, W, 3) float32, and labels, (H, W) uint16, of these stems."""
    from csbdeep.utils import normalize

    images = [np.asarray(Image.open(next(Path(raw).glob(f"{stem}.*"))).convert("RGB"), np.float32) for stem in stems]
    labels = [np.asarray(Image.open(Path(truth) / f"{stem}.png")).astype(np.uint16) for stem in stems]
    return [normalize(image, 1, 99.8, axis=(0, 1, 2)) for image in images], labels


def augment(image, labels):
    """As in StarDist's example: flips, quarter turns, a factor and an offset."""
    rng = np.random.default_rng()
    turns = rng.integers(4)
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if rng.random() < 0.5:
        image, labels = image[::-1], labels[::-1]
    return image * rng.uniform(0.6, 2) + rng.uniform(-0.2, 0.2), labels


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw")
    parser.add_argument("instances")
    parser.add_argument("split")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--curve", type=float, nargs="*", default=[], metavar="MIN", help="predict with the best so far, too")
    parser.add_argument("--out", default="stardist")
    args = parser.parse_args(argv)
    import keras
    from stardist.models import Config2D, StarDist2D

    out = Path(args.out)
    with open(args.split, newline="") as file:
        rows = [row for row in csv.DictReader(file) if (Path(args.instances) / f"{row['stem']}.png").is_file()]
    train, validation = ([row["stem"] for row in rows if row["split"] == part] for part in ("train", "validation"))
    images, labels = read(args.raw, args.instances, train)
    other_images, other_labels = read(args.raw, args.instances, validation)
    print(f"{len(images)} images to train on, {len(other_images)} to validate", flush=True)
    config = Config2D(n_channel_in=3, grid=(2, 2), train_epochs=EPOCHS, train_steps_per_epoch=STEPS, train_tensorboard=False)
    model = StarDist2D(config, name="model", basedir=str(out))
    model.prepare_for_training()
    begin, best, waiting = time.monotonic(), out / "model" / "weights_best.h5", sorted(args.curve)

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            minutes = (time.monotonic() - begin) / 60
            while waiting and minutes > waiting[0]:
                name = f"after_{waiting.pop(0):g}"
                if best.is_file():
                    shutil.copy(best, out / f"{name}.h5")
            if minutes > args.minutes:
                self.model.stop_training = True

    def predict(folder):
        model.optimize_thresholds(other_images, other_labels)
        folder.mkdir(parents=True, exist_ok=True)
        for stem, image in zip(validation, other_images):  # noqa: B905, this also runs on Python 3.9
            found, _ = model.predict_instances(image, n_tiles=model._guess_n_tiles(image))
            Image.fromarray(found.astype(np.uint16)).save(folder / f"{stem}.png")

    model.callbacks.append(Clock())
    # It validates on all images after each epoch, which would take as long as the epoch: every fourth is enough to choose one.
    model.train(images, labels, validation_data=(other_images[::4], other_labels[::4]), augmenter=augment)
    predict(out / "labels")
    for weights in sorted(out.glob("after_*.h5")):
        model.keras_model.load_weights(str(weights))
        predict(out / weights.stem / "labels")


if __name__ == "__main__":
    main()
