"""The work folder of a slide: what is finished of it, until all of it is.

    OUT/.STEM.work/setup.json          the decisions that all tiles share
    OUT/.STEM.work/mask.npy            the tissue mask
    OUT/.STEM.work/tile_000017.npz     the nuclei of one tile

A run that was killed goes on from here. Workers of a cluster read and write here, too.
"""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np

from nuclei.files import is_system_fault, replacing
from nuclei.schema import read_json
from nuclei.slides.setup import Setup
from nuclei.slides.tile_nuclei import TileNuclei

SETUP = "setup.json"


class WorkFolder:
    """The work folder of one slide. Every file in it is written whole or not at all.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path):
        self.path = Path(path)

    def read_setup(self):
        """The `Setup`; None where there is none, or not the one that was written.

        Raises:
            ValueError: something else stands in its place: a pipe would be waited for without end.
        """
        for path, is_right in ((self.path, os.path.isdir), (self.path / SETUP, os.path.isfile)):
            if os.path.lexists(path) and not is_right(path):
                raise ValueError(
                    f"{path} stands in the place of unfinished work on this slide; move it away, "
                    "or give another --out"
                )
        try:
            values = json.loads((self.path / SETUP).read_text(encoding="utf-8"))
            if values.pop("sha256") != hash_of_values(values):
                return None
            return read_json(json.dumps(values), Setup)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def require_setup(self):
        """The `Setup`. Raises: ValueError where there is none that can be read."""
        setup = self.read_setup()
        if setup is None:
            raise ValueError(
                f"{self.path} has no setup.json; run again to go on from what is finished"
            )
        return setup

    def write_setup(self, setup):
        """Write a `Setup`: from now on the folder belongs to its key, and no tile is finished."""
        self.remove_tiles()
        with replacing(self.path / SETUP) as temporary:
            values = setup._asdict()
            text = json.dumps({"sha256": hash_of_values(values), **values})
            temporary.write_text(text, encoding="utf-8")

    def read_mask(self):
        """The tissue mask, (h, w) bool."""
        return np.load(self.path / "mask.npy")

    def write_mask(self, mask):
        """Write the tissue mask, (h, w) bool."""
        with replacing(self.path / "mask.npy") as temporary:
            np.save(temporary, mask)

    def tile_path(self, tile):
        """The file of a tile."""
        return self.path / f"tile_{tile.index:06d}.npz"

    def write_tile(self, tile, nuclei):
        """Write the `TileNuclei` of a tile."""
        with replacing(self.tile_path(tile)) as temporary:
            nuclei.save(temporary)

    def read_tile(self, tile):
        """The `TileNuclei` of a finished tile."""
        return TileNuclei.load(self.tile_path(tile))

    def count_nuclei(self, tile):
        """Number of nuclei of a tile; None where it is not finished."""
        try:
            return len(self.read_tile(tile))
        except FileNotFoundError:
            return None
        except Exception as error:  # of all kinds, by NumPy and zipfile, on a damaged file
            if is_system_fault(error):
                raise
            return None  # a loss of power leaves such files

    def remove_tiles(self):
        """Remove the finished tiles."""
        for path in self.path.glob("tile_*.npz"):
            path.unlink(missing_ok=True)

    def refresh(self):
        """Ask the server of a shared folder what is in it.

        A network file system may remember for a minute that a file was missing.
        """
        os.listdir(self.path)

    def clear(self):
        """Remove the folder. One without our settings is not ours, unless it is empty."""
        if (self.path / SETUP).is_file():
            self.remove_tiles()  # before the setup, which says whose they are
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                self.path.rmdir()


def hash_of_values(values):
    """The SHA-256 of a dict for JSON, which also finds a damaged number that could be right."""
    return hashlib.sha256(json.dumps(values).encode("utf-8")).hexdigest()


def work_folder(out, stem):
    """The `WorkFolder` of a slide whose results go to `out` under `stem`."""
    return WorkFolder(Path(out) / f".{stem}.work")
