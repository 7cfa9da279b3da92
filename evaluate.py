"""Score predicted nuclei against the truth: pixels, objects, and how certain the numbers are.

    python evaluate.py                                    # predictions/ against data/test_gt/
    python evaluate.py PRED TRUTH                         # two folders of masks with equal stems
    python evaluate.py --groups predictions/summary.csv   # and for each modality
    python evaluate.py PRED TRUTH --split split.csv --subset validation

PRED and TRUTH hold masks in any form that `import_data.py` reads: binary, instance labels, one
colour per nucleus. PRED may be a folder that predict.py wrote: its `labels/` are then scored. The
nuclei of a binary mask are its connected components, so touching nuclei count as one.

Writes `evaluation.csv` (one row per image, worst first) and `evaluation.json` (everything, with the
definitions) into PRED or the folder given by --out. An earlier evaluation there is replaced.
"""

import argparse
import sys
from pathlib import Path

from nuclei.cli import PREDICTIONS_DIR, TRUTH_DIR, add_ignore_flag, user_errors_in_one_line
