"""Average the weights of several models, and choose the thresholds of the average anew.

    python -m experiments.average_models A.h5 B.h5 C.h5 --out MEAN.h5 \\
        --data-dir dsb2018 --gt-dir dsb2018/instances --split split.csv

It is worth it for models that were all fine-tuned from one model: their errors differ by chance,
and the average errs less than each of them, at the cost of one. The settings are those of the last
model.

References:
    Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves
    accuracy".
"""

import sys
from pathlib import Path

import numpy as np

from nuclei.cli import DATA_DIR, command_line, user_errors_in_one_line
from nuclei.inference.find import predict_maps
from nuclei.model_file import find_model, load_network, save_model
from nuclei.training.recipe import Recipe
from nuclei.training.samples import choose_split, load_samples
from nuclei.training.selection import score_validation


def average(paths):
    """Load the models and average their weights. Returns: the network and the last one's settings.

    Raises:
        ValueError: the architectures differ.
    """
    networks, settings = zip(*(load_network(find_model(path)) for path in paths), strict=True)
    for path, other in zip(paths, settings, strict=True):
        if other["architecture"] != settings[-1]["architecture"]:
            raise ValueError(
                f"{path} has another architecture than {paths[-1]}; only models of one "
                "architecture can be averaged"
            )
    weights = zip(*(network.get_weights() for network in networks), strict=True)
    networks[-1].set_weights([np.mean(arrays, axis=0) for arrays in weights])
    return networks[-1], settings[-1]


def parse_arguments(argv):
    """Read the flags."""
    parser = command_line(__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="model files to average")
    parser.add_argument(
        "--data-dir",
        default=DATA_DIR,
        metavar="DIR",
        help="folder with raw/ and gt/ (default %(default)s)",
    )
    parser.add_argument(
        "--gt-dir", metavar="DIR", help="folder of the masks (default gt/ in --data-dir)"
    )
    parser.add_argument(
        "--split", metavar="CSV", help="as for train.py (default: as train.py chooses it)"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="the model file to write")
    return parser.parse_args(argv)


@user_errors_in_one_line
def main(argv=None):
    """Write the mean of the models, with thresholds of its own, and return the exit status."""
    args = parse_arguments(argv)
    if Path(args.out).exists():
        raise ValueError(f"{args.out} is there already; give another name")
    network, settings = average(args.models)
    recipe = Recipe(data_dir=args.data_dir, gt_dir=args.gt_dir, split=args.split)
    folder = Path(args.out).parent
    samples, _ = load_samples(recipe.raw_dir, recipe.truth_dir, folder=folder, **recipe.reading)
    _, stems = choose_split(samples, recipe.split, recipe.seed)
    validating = [samples[stem] for stem in stems]
    chosen, scores = score_validation(network, settings["architecture"], validating, predict_maps)
    names = [Path(path).name for path in args.models]
    changes = {"scores": {"validation": scores}, "mean_of": names}
    save_model(args.out, network, settings | chosen | changes)
    overall = scores["all"]
    print(f"Wrote {args.out}: AP@0.5 {overall['ap50']:.3f}  mAP {overall['map']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
