"""Find, pair, read and normalise images and masks: the data contract of the project.

    python import_data.py                                  check data/raw and data/gt: what is there, what is wrong
    python import_data.py my_data                          the same for another folder
    python import_data.py --from stage1_train.zip          bring a DSB2018/BBBC038 folder or zip into --out
    python import_data.py --download                       fetch that public set (BBBC038, CC0) and bring it in

`DATA_DIR/raw` holds the images and `DATA_DIR/gt` their truth, paired by stem: `raw/a.jpg` belongs to `gt/a.png`.
Any mix of png, tif, jpg and bmp, any size, 8-bit, 16-bit or float; the form of the truth is recognised by itself. The
truth may also be outlines, as corrected in QuPath (a.geojson), ImageJ (a.zip or a.roi) or a COCO tool (a.json).
Nothing here needs Keras, so the check opens at once.
"""

import argparse
import sys
import urllib.request
from pathlib import Path

from nuclei.cli import DATA_DIR, user_errors_in_one_line
from nuclei.files import MAX_NAMED
from nuclei.images.check import check_pairs, describe_check
from nuclei.images.download import download
from nuclei.images.dsb2018 import import_dsb2018

PUBLIC_DATA_DIR = "data/dsb2018"  # a folder of its own, so that an import never mixes with other pairs
PUBLIC_URL = "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"  # 670 images, CC0, about 80 MB


@user_errors_in_one_line
def main(argv=None) -> int:
    """Check a data folder, or bring another layout into one and check it. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", nargs="?", default=DATA_DIR, help="folder with raw/ and gt/ (default: %(default)s)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from", dest="source", metavar="FOLDER_OR_ZIP", help="import this DSB2018/BBBC038 layout")
    source.add_argument("--download", action="store_true", help="fetch the public DSB2018 training set and import it")
    parser.add_argument("--out", default=PUBLIC_DATA_DIR, help="where an import goes (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace the stems that are there already")
    parser.add_argument("--url", default=PUBLIC_URL, help="address of the zip to download (default: %(default)s)")
    parser.add_argument("--sha256", help="hash that the downloaded zip must have")
    args = parser.parse_args(argv)
    importing = args.download or args.source is not None
    if not importing and (args.overwrite or args.out != PUBLIC_DATA_DIR):
        parser.error("--out and --overwrite go with --from or --download")
    if importing and args.data_dir != DATA_DIR:
        parser.error("an import goes to --out, not to DATA_DIR")

    data_dir, status = Path(args.data_dir), 0
    source = args.source
    if args.download:
        name = Path(urllib.parse.urlsplit(args.url).path).name or "download"
        source = download(args.url, Path(args.out) / name, args.sha256)
    if importing:
        data_dir = Path(args.out)
        counts, problems = import_dsb2018(source, data_dir, args.overwrite)
        print(f"{source} -> {data_dir}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
        if problems:
            status = 1
            print(f"{len(problems)} images were not imported:", *problems[:MAX_NAMED], sep="\n    ")
    checked, problems, stops = check_pairs(data_dir / "raw", data_dir / "gt")
    print(f"{data_dir}: {len(checked):,} sound pairs")
    print(describe_check(checked, problems, stops))
    return 1 if stops else status


if __name__ == "__main__":
    sys.exit(main())
