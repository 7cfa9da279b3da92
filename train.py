"""Train a U-Net on pairs of images and masks.

    python train.py                                   # data/raw + data/gt -> Saved_Model/trained_model.h5 and history.csv
    python train.py --data-dir my_data --epochs 60    # your own pairs
    python train.py --resume                          # go on after a crash, a power cut or Ctrl-C
    python train.py --init Saved_Model/pretrained.h5 --data-dir few_images         # fine-tune a model, if with few images
    python train.py --devices 4 --batch-size 32       # on four GPUs of this machine, which share each batch

Each epoch leaves Saved_Model/history.csv (one row more), Saved_Model/trained_model.h5 (the best epoch so far by
validation loss) and Saved_Model/checkpoint.h5 (all that `--resume` needs; removed at the end). At the end the
thresholds of `instances.separate` are chosen on the validation images and stored in the model file, for this epoch and
for the mean of the weights of the last quarter of all epochs: what then finds the nuclei better is kept. An earlier
model and history move to Saved_Model/previous/. The batches and weights of a run are a function of its seed: two runs on
one CPU agree, and a resumed run ends with the history of an uninterrupted one.
"""

import argparse
import re
import sys
from pathlib import Path

from nuclei.cli import DATA_DIR, MODEL_DIR, positive, user_errors_in_one_line
from nuclei.inference.find import predict_maps
from nuclei.training.checkpoint import read_checkpoint
from nuclei.training.fine_tuning import FEW_BLEND, FEW_IMAGES, REHEARSAL_SHARE
from nuclei.training.fit import FINE_TUNING_RATE, LEARNING_RATE, train
from nuclei.training.hosts import broadcast, join_processes
from nuclei.training.selection import MIN_SEARCH_NUCLEI
from unet import DEPTH, HEADS, STEM_STRIDE, WIDTH

SEED = 7
EPOCHS = 30
CROPS_PER_IMAGE = 2  # in one epoch, of each training image on average
BATCH_SIZE = 8  # with Muon; a crop of a batch of 4 takes a tenth more time, and AdamW wanted these more and rougher steps
CROP_PX = 256  # shows ten or more nuclei of usual size; what most public sets cut their images to
PATIENCE = 20  # epochs without a better validation loss, then training stops
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")


def parse_arguments(argv):
    """The flags; with --resume those of the interrupted run, which the user need not repeat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-dir", default=DATA_DIR, metavar="DIR", help=f"folder with raw/ and gt/ (default {DATA_DIR})")
    add("--gt-dir", default=None, metavar="DIR", help="folder of the masks, if not DATA_DIR/gt")
    add("--split", default=None, metavar="CSV", help="columns stem, split (train or validation); default: chosen by itself")
    add("--out", default=MODEL_DIR, metavar="DIR", help=f"where model and history go (default {MODEL_DIR})")
    add("--init", default=None, metavar="MODEL", help="start from the weights of this model file")
    add(
        "--blend", type=float, default=None, metavar="B",
        help="share of the way gone from --init to the new weights; 1 is all of it (default: no more than pays on validation, "
        f"or {FEW_BLEND} where that has fewer than {MIN_SEARCH_NUCLEI} nuclei)",
    )  # fmt: skip
    add(
        "--rehearsal", type=float, default=None, metavar="SHARE",
        help="with --init: share of the crops that are painted in another modality, to keep what the model knew of that "
        f"(default {REHEARSAL_SHARE} with fewer than {FEW_IMAGES} images, else 0)",
    )  # fmt: skip
    add("--resume", action="store_true", help="go on with the interrupted training in --out, with its settings")
    add("--epochs", type=positive, default=EPOCHS, metavar="N", help=f"(default {EPOCHS})")
    number = {"type": positive, "metavar": "N"}
    add("--crops-per-image", default=CROPS_PER_IMAGE, help=f"in one epoch (default {CROPS_PER_IMAGE})", **number)
    add("--batch-size", type=positive, default=BATCH_SIZE, metavar="N", help=f"crops in one step (default {BATCH_SIZE})")
    add("--crop", type=positive, default=CROP_PX, metavar="PX", help=f"height and width of a crop (default {CROP_PX})")
    rates = f"(default {LEARNING_RATE}, with --init {FINE_TUNING_RATE})"
    add("--learning-rate", type=float, default=None, metavar="R", help=f"at its highest {rates}")
    add("--patience", type=positive, default=PATIENCE, metavar="N", help=f"epochs without gain, then stop (default {PATIENCE})")
    add("--width", default=WIDTH, help=f"filters of the first level (default {WIDTH})", **number)
    add("--depth", default=DEPTH, help=f"times the encoder halves the size (default {DEPTH})", **number)
    add("--stem-stride", type=int, choices=(1, 2), default=STEM_STRIDE, help="2: the first convolution halves, too")
    add("--normalisation", choices=("batch", "group", "none"), default="batch", help="(default batch)")
    add("--heads", nargs="+", choices=HEADS, help="maps to learn (default all, or those of --init)")
    add("--precision", choices=PRECISIONS, default="auto", help="of the arithmetic (default auto: half on a GPU that gains)")
    add("--seed", type=int, default=SEED, metavar="N", help=f"of everything random (default {SEED})")
    add("--devices", default=1, help="GPUs of this machine that share each batch (default 1)", **number)
    hosts = parser.add_argument_group("several hosts", "one process on each, all with the same flags and data, on JAX")
    hosts.add_argument("--num-processes", default=1, help="how many there are (default 1)", **number)
    hosts.add_argument(
        "--process-id", type=int, default=0, metavar="K", help="which this is, from 0; that one writes the files"
    )
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, with a free port, the same for all")
    args = parser.parse_args(argv)
    if not 0 <= args.process_id < args.num_processes:
        parser.error(f"--process-id is {args.process_id}; with --num-processes {args.num_processes} it counts from 0")
    if args.blend is not None and not 0 < args.blend <= 1:
        parser.error(f"--blend is {args.blend}; expected more than 0, the weights of --init, up to 1, those of the training")
    if args.rehearsal is not None and not (0 <= args.rehearsal < 1 and (args.init or args.resume)):
        parser.error(f"--rehearsal is {args.rehearsal}; expected 0 or more and less than 1, with --init")
    if args.num_processes > 1 and not re.fullmatch(r".+:\d+", args.coordinator or ""):
        parser.error(f"--coordinator is {args.coordinator}; {args.num_processes} processes need HOST:PORT to meet at")
    return args


@user_errors_in_one_line
def main(argv=None):
    args = vars(parse_arguments(argv))
    processes = {"num_processes": args["num_processes"], "process_id": args["process_id"]}
    try:
        if args["resume"]:
            join_processes(args["coordinator"], **processes)
            checkpoint = Path(args["out"]) / "checkpoint.h5"
            args |= broadcast(lambda: read_checkpoint(checkpoint)[1]["arguments"], **processes)
        train(**args, predict_maps=predict_maps)
    except (RuntimeError, ValueError) as error:
        # JAX says it by either, depending on the call that the death of the other falls into.
        lost = isinstance(error, RuntimeError) or re.search(r"gloo|nccl|coordination service", str(error), re.IGNORECASE)
        if args["num_processes"] == 1 or not lost:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]  # that an exchange failed: JAX knows no more
        raise ValueError(
            f"process {args['process_id']} lost another process, whose last lines say why ({reason}). Start all of them "
            "again with --resume to go on after the last finished epoch"
        ) from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
