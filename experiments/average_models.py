"""The mean of the weights of several models as a model of its own, its thresholds chosen anew on the validation images.

    python tests/average_models.py A.h5 B.h5 C.h5 --data-dir dsb2018 --gt-dir dsb2018/instances --split split.csv --out M.h5

It pays for models that were trained on from one and the same model: where each of them errs by chance, the mean errs less,
and costs no more than one. The settings are those of the last one.

References:
    Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy".
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import train
from nuclei.cli import user_errors_in_one_line
from nuclei.inference.find import predict_maps
from nuclei.machine import set_up_backend
from nuclei.model_file import load_network, save_model
from nuclei.training.samples import choose_split, load_samples
from nuclei.training.selection import score_validation
from unet import network_geometry

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))



@user_errors_in_one_line
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data-dir", default=train.DATA_DIR)
    parser.add_argument("--gt-dir")
    parser.add_argument("--split")
    parser.add_argument("--out", required=True, metavar="FILE")
    args = parser.parse_args(argv)
    if Path(args.out).exists():
        raise ValueError(f"{args.out} is there already; give another name")
    set_up_backend()
    models, settings = zip(*map(load_network, args.models), strict=True)
    for path, other in zip(args.models, settings, strict=True):
        if other["architecture"] != settings[-1]["architecture"]:
            raise ValueError(f"{path} has another architecture than {args.models[-1]}; only equal ones have a mean")
    model, settings = models[-1], dict(settings[-1])
    model.set_weights([np.mean(arrays, axis=0) for arrays in zip(*(one.get_weights() for one in models), strict=True)])
    gt_dir = args.gt_dir or Path(args.data_dir) / "gt"
    samples, _ = load_samples(Path(args.data_dir) / "raw", gt_dir, folder=Path(args.out).parent)
    _, validation = choose_split(samples, args.split, train.SEED)
    found, scores = score_validation(model, [samples[s] for s in validation], network_geometry(settings["architecture"]), predict_maps)
    settings |= found
    settings["scores"] = {"validation": scores}
    settings["mean_of"] = [Path(path).name for path in args.models]
    save_model(args.out, model, settings)
    print(f"Wrote {args.out}: AP@0.5 {scores['all']['ap50']:.3f}  mAP {scores['all']['map']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
