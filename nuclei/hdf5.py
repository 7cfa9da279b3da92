"""HDF5 files, read from memory and written to memory.

content = hdf5_bytes(lambda file: file.create_dataset("a", data=array))
refuse_endless_heap(content)
with h5py.File(Content(content), "r") as file:
    refuse_larger_content(file)

What would hang the library or fill memory in a damaged file is refused before. On a full disk the
library fails while it closes its file, and with it the process: so Python writes the bytes.
"""

import io
import struct
from collections.abc import Callable

HEAP = b"GCOL\x01"  # begins a global heap, in which HDF5 keeps texts
OBJECT = struct.Struct("<HHIQ")  # number, references, reserved, bytes of an object in a heap
HEADER_BYTES = 16  # of a heap and of each object


NAME = "content.h5"  # of a file in memory: Keras knows the format by the end of the name


class Content(io.BytesIO):
    """The bytes of an HDF5 file, for h5py and for Keras, which asks for a name."""

    def __str__(self) -> str:
        return NAME


def hdf5_bytes(fill: Callable) -> bytes:
    """The content of a new HDF5 file.

    Args:
        fill: called with the open `h5py.File`, which Keras takes for a path, too.
    """
    import h5py

    class FileInMemory(h5py.File):
        def __str__(self):
            return NAME

    with FileInMemory(NAME, "w", driver="core", backing_store=False) as file:
        fill(file)
        file.flush()
        return file.id.get_file_image()


def refuse_endless_heap(content) -> None:
    """Check that each object of a global heap ends within the heap.

    The HDF5 library goes from one object to the next by the sizes that the file states, and never
    comes to an end where a size is 0.

    Args:
        content: of the file, bytes or an `mmap`.

    Raises:
        ValueError: an object does not.

    References:
        HDF5 File Format Specification 3.0, III.E "Global Heap".
    """
    start = content.find(HEAP)
    while start >= 0:
        size = int.from_bytes(content[start + 8 : start + HEADER_BYTES], "little")
        place, end = start + HEADER_BYTES, min(start + size, len(content))
        while place + HEADER_BYTES <= end:
            number, _, _, num_bytes = OBJECT.unpack(content[place : place + HEADER_BYTES])
            # Object 0 is the free space, whose size includes its header; others fill up to 8 bytes.
            step = HEADER_BYTES + num_bytes + -num_bytes % 8 if number else num_bytes
            if not 0 < step <= end - place:
                raise ValueError(f"an object of its heap claims {num_bytes:,} bytes")
            place += step
        start = content.find(HEAP, start + 1)


def refuse_larger_content(file) -> None:
    """Check that no array claims to be larger than its file. This program compresses none.

    Args:
        file: an open `h5py.File`.

    Raises:
        ValueError: an array does.
        Exception: of any kind, from HDF5, where the file is damaged.
    """
    import h5py

    num_bytes = file.id.get_filesize()

    def look(name, item):
        if isinstance(item, h5py.Dataset) and item.nbytes > num_bytes:
            raise ValueError(f"array {name} claims {item.nbytes:,} bytes of {num_bytes:,}")

    file.visititems(look)
