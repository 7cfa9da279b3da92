"""Load pairs of images and ground truth, check a folder of them, bring other layouts in.

    python import_data.py                                check data/raw and data/gt
    python import_data.py my_data                        check another folder
    python import_data.py my_data --json check.json      and write what it found for programs
    python import_data.py my_data --compare              compare its truth with the shipped model
    python import_data.py --from stage1_train.zip        bring a DSB2018/BBBC038 folder or zip in
    python import_data.py --from NuInsSeg                and others: TNBC, PanNuke, images/ + masks/
    python import_data.py --download                     fetch that public set (CC0) and bring it in
    python import_data.py my_data --divide-by found      divide binary masks by found nuclei

`DATA_DIR/raw` holds the images and `DATA_DIR/gt` their ground truth, paired by stem: `raw/a.jpg`
belongs to `gt/a.png`. Images may be png, tif, jpg and bmp, of any size, 8-bit, 16-bit or float. The
truth may be a mask, ids, one colour per nucleus, an array of Cellpose (a_seg.npy) or HoVer-Net
(a.mat), or outlines of QuPath (a.geojson), ImageJ (a.zip or a.roi), LabelMe, VIA or a COCO tool
(a.json, or one for the whole set), Aperio or CVAT (a.xml); its form is recognised.

From Python:

    from import_data import load_pairs

    for stem, (image, truth) in load_pairs("data").items():
        print(stem, image.shape, truth.labels.max(), "nuclei")
"""

from nuclei.stopping import stop_while_importing

if __name__ == "__main__":
    stop_while_importing()

import argparse
import contextlib
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from nuclei.cli import (
    DATA_DIR,
    MODEL_HELP,
    SHIPPED,
    add_ignore_flag,
    add_plane_flags,
    add_quiet_flag,
    command_line,
    user_errors_in_one_line,
)
from nuclei.datasets.agreement import Agreement
from nuclei.datasets.array_sets import array_sets, import_array_sets
from nuclei.datasets.check import check_pairs, describe_check
from nuclei.datasets.check_record import check_record, recording_failure, write_check
from nuclei.datasets.divided_set import divide_set
from nuclei.datasets.download import PUBLIC_SHA256, PUBLIC_URL, download
from nuclei.datasets.folder_sets import has_folder_pairs, import_folders
from nuclei.datasets.pairs import Reading, find_pairs, read_pair
from nuclei.datasets.target import Imported, own_data_dir
from nuclei.files import plural
from nuclei.leftovers import adding_to, writing_into
from nuclei.model_file import describe_model, find_model, read_settings
from nuclei.progress import quietly
from nuclei.streams import visible
from nuclei.truth.forms import Truth

ELSEWHERE = "give --json another file"
PUBLIC_DATA_DIR = "data/dsb2018"  # of --download; --from has a folder of the name of its source


def load_pairs(data_dir=DATA_DIR) -> dict[str, tuple[np.ndarray, Truth]]:
    """Read all pairs of a folder into memory.

    Args:
        data_dir: holds raw/ and gt/.

    Returns:
        {stem: (image, truth)}, sorted by stem. `image` is (H, W, 3) uint8 or uint16;
        `truth.labels` is (H, W) int32, 0 background, 1...n nuclei without gaps.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: there are no pairs, or one of them cannot be read.
    """
    paths = find_pairs(Path(data_dir) / "raw", Path(data_dir) / "gt")
    return {stem: read_pair(image, truth) for stem, (image, truth) in paths.items()}


def add_check_flags(parser) -> None:
    """Flags of the check."""
    checking = parser.add_argument_group("check")
    checking.add_argument(
        "--json", metavar="FILE", help="write the check to this file for programs (default: no)"
    )
    add_ignore_flag(checking.add_argument)
    checking.add_argument(
        "--compare",
        action="store_true",
        help="compare the truth with what a model finds and name the files that do not fit "
        "(default: no; it takes as long as predict.py)",
    )
    checking.add_argument(
        "--model",
        default=SHIPPED,
        metavar="MODEL",
        help=f"model to compare with: {MODEL_HELP} (default %(default)s)",
    )


def add_import_flags(parser) -> None:
    """Flags of an import, of a download and of a division."""
    importing = parser.add_argument_group("bring another layout in, or divide")
    source = importing.add_mutually_exclusive_group()
    source.add_argument(
        "--from",
        dest="source",
        metavar="FOLDER_OR_ZIP",
        help="import this folder or zip of DSB2018/BBBC038, NuInsSeg, TNBC, MoNuSeg or CoNSeP, or "
        "of images/ with labels/ or masks/, or this folder of PanNuke or CoNIC (images.npy with "
        "masks.npy or labels.npy) (default: import nothing)",
    )
    source.add_argument(
        "--download",
        action="store_true",
        help="fetch the public DSB2018 training set and import it (default: no)",
    )
    source.add_argument(
        "--divide-by",
        metavar="FOLDER",
        help="divide the binary masks of DATA_DIR by the nuclei in this folder of label images, as "
        "predict.py --formats labels writes them, into a new folder (default: divide nothing)",
    )
    importing.add_argument(
        "--out",
        metavar="DIR",
        help="folder that gets raw/ and gt/ (default: data/ and the name of what is imported; "
        f"{PUBLIC_DATA_DIR} for --download; DATA_DIR_divided for --divide-by)",
    )
    importing.add_argument(
        "--overwrite",
        action="store_true",
        help="replace pairs that exist already (default: leave them as they are)",
    )
    fetching = parser.add_argument_group("download")
    fetching.add_argument(
        "--url",
        default=PUBLIC_URL,
        help="address of the zip (default: %(default)s); a download that is cut starts anew",
    )
    fetching.add_argument(
        "--sha256",
        metavar="HEX",
        help="hash that the zip must have (default: known for the default address, else none)",
    )


def parse_arguments(argv) -> argparse.Namespace:
    """Read the command line. A usage error ends the program with status 2."""
    parser = command_line(__doc__)
    parser.add_argument(
        "data_dir",
        nargs="?",
        default=DATA_DIR,
        help="folder with raw/ and gt/ to check or to divide (default: %(default)s)",
    )
    add_check_flags(parser)
    add_plane_flags(parser)
    add_import_flags(parser)
    add_quiet_flag(parser)
    args = parser.parse_args(argv)
    is_import = args.download or args.source is not None
    is_division = args.divide_by is not None
    if args.overwrite and not is_import:
        parser.error("--overwrite goes with --from or --download")
    if args.out is not None and not (is_import or is_division):
        parser.error("--out goes with --from, --download or --divide-by")
    if not args.download and (args.url != PUBLIC_URL or args.sha256 is not None):
        parser.error("--url and --sha256 go with --download")
    if not args.compare and args.model != SHIPPED:
        parser.error("--model goes with --compare")
    if is_import and args.data_dir != DATA_DIR:
        parser.error("an import goes to --out, not to DATA_DIR")
    if is_import and args.out is None:
        args.out = PUBLIC_DATA_DIR if args.download else own_data_dir(args.source)
        if args.out is None:
            parser.error(
                f"the name of {args.source} says nothing about the set; give --out a new folder"
            )
    if is_division and (args.ignore or args.channel or args.plane):
        parser.error("--ignore, --channel and --plane do not go with --divide-by")
    if is_division and args.out is None:
        path = Path(args.data_dir)
        path = path.resolve() if path.name in ("", "..") else path
        args.out = f"{path}_divided"
    return args


def bring_in(source, out_dir, overwrite: bool) -> int:
    """Import a folder or zip. Returns and raises: as `report`; raises also as the importers."""
    has_arrays = any(array_sets(source).values())
    importers = [import_array_sets] if has_arrays else []
    if not has_arrays or has_folder_pairs(source):
        importers.append(import_folders)
    return report([bring(source, out_dir, overwrite) for bring in importers], source, out_dir)


def report(results: list[Imported], source, out_dir) -> int:
    """Say what came of an import. Returns 1 where an image failed, else 0.

    Raises:
        ValueError: nothing came in.
    """
    for result in results:
        print(visible(f"{source} -> {out_dir}: {result}"))
        for line in result.remarks():
            print(visible(line))
        for line in result.faults():
            print(visible(line), file=sys.stderr)
    problems = [problem for result in results for problem in result.problems]
    if not any(result.has_pairs for result in results):
        reason = problems[0] if problems else "it holds no image"
        raise ValueError(f"no pair of {source} came in: {reason}")
    return 1 if problems else 0


def divide_masks(args) -> int:
    """Divide binary masks. Returns: as `report`. Raises: as `divide_set`."""
    with adding_to(Path(args.out).absolute().parent):  # the new folder appears there at the end
        result = divide_set(args.data_dir, args.divide_by, args.out)
    return report([result], args.data_dir, args.out)


def checked(data_dir: Path, args, status: int) -> int:
    """Check a folder and say what it holds, also in a file for programs. Returns the exit status.

    Args:
        data_dir: holds raw/ and gt/.
        args: the flags `ignore`, `channel`, `plane`, `compare`, `model` and `json`: the file that
            gets the check; None writes none.
        status: to return where training could run.
    """
    agreement = agreement_with(args.model) if args.compare else None
    reading = Reading(tuple(args.ignore or ()), args.channel, args.plane)
    check = check_pairs(data_dir / "raw", data_dir / "gt", reading, agreement)
    status = 1 if check.stops else status
    suspects = None if agreement is None else agreement.suspects()
    if args.json is not None:
        write_check(args.json, check_record(data_dir, check, status, suspects))
    print(f"{data_dir}: {plural(len(check.pairs), 'sound pair')}")
    print(describe_check(check))
    if agreement is not None:
        print(*agreement.lines(), sep="\n")
    return status


def agreement_with(model_path) -> Agreement:
    """An `Agreement` with a model file; says which it is."""
    from nuclei.inference.engines import load_model  # late: a check without it needs no network
    from nuclei.inference.find import find_nuclei

    model_path = find_model(model_path)
    print(describe_model(model_path, read_settings(model_path)))
    model = load_model(model_path)
    return Agreement(lambda image: find_nuclei(image, model).labels)


def import_and_check(args) -> int:
    """Bring data in or divide masks, if asked, and check the folder. Returns the exit status."""
    is_import = args.out is not None
    with contextlib.ExitStack() as stack:
        if args.json is not None:
            stack.enter_context(writing_into(Path(args.json).parent, ELSEWHERE))
        stack.enter_context(recording_failure(args.json, args.out if is_import else args.data_dir))
        if not is_import:
            return checked(Path(args.data_dir), args, 0)
        stack.enter_context(writing_into(args.out))
        if args.divide_by is not None:
            return checked(Path(args.out), args, divide_masks(args))
        source = args.source
        if args.download:
            name = Path(urlsplit(args.url).path).name or "download"
            sha256 = args.sha256 or (PUBLIC_SHA256 if args.url == PUBLIC_URL else None)
            source = download(args.url, Path(args.out) / name, sha256)
        return checked(Path(args.out), args, bring_in(source, args.out, args.overwrite))


@user_errors_in_one_line
def main(argv=None) -> int:
    """Check a data folder; or first bring another layout into one, or divide its masks."""
    args = parse_arguments(argv)
    with quietly(args.quiet):
        return import_and_check(args)


if __name__ == "__main__":
    sys.exit(main())
