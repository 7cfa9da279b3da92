"""Where the arrays of a training lie: in memory up to a limit, then in a temporary file.

with ArrayStore("Saved_Model", print) as store:
    image, labels = store.keep(image, labels)
"""

import os
import tempfile
from pathlib import Path

import numpy as np

from nuclei.full_disk import explaining_full_disk
from nuclei.machine import memory_bytes

HELD_BYTES = 4_000_000_000  # of images and labels in memory, at 7 bytes a pixel
HELD_SHARE = 0.25  # of the memory that this process may use, where that is less


class ArrayStore:
    """Keeps arrays in memory up to a limit, and the rest in a temporary file.

    Arrays in the file are memory-mapped; they stay readable after the store is closed.
    """

    def __init__(self, folder, say):
        self.folder, self.say = Path(folder), say
        self.max_bytes = min(HELD_BYTES, HELD_SHARE * memory_bytes())
        self.num_bytes = 0
        self.file = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.file is not None:
            self.file.close()

    def keep(self, *arrays):
        """Take arrays and return what to use in their place: themselves or mapped copies."""
        self.num_bytes += sum(array.nbytes for array in arrays)
        if self.num_bytes <= self.max_bytes:
            return arrays
        if self.file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115, closed by __exit__
            self.say(
                f"The images are more than {self.max_bytes / 1e9:.3g} GB: the rest lies in a "
                f"temporary file in {self.folder}"
            )
        return [self.mapped(array) for array in arrays]

    def mapped(self, array):
        """Append an array to the file and map it."""
        start = self.file.seek(0, os.SEEK_END)
        with explaining_full_disk(self.folder / "(temporary file of the images)"):
            self.file.write(np.ascontiguousarray(array))
            self.file.flush()
        return np.memmap(self.file, array.dtype, "r", start, array.shape)
