"""HDF5 files that may be damaged: what would hang the library or fill memory is refused before.

refuse_endless_heap(content)
with h5py.File(io.BytesIO(content), "r") as file:
    refuse_larger_content(file)
"""

import struct

HEAP = b"GCOL\x01"  # begins a global heap, in which HDF5 keeps texts
OBJECT = struct.Struct("<HHIQ")  # number, references, reserved, bytes of an object in a heap
HEADER_BYTES = 16  # of a heap and of each object


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
