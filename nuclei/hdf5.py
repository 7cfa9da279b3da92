"""HDF5 files that may be damaged: what they claim is checked before memory is filled with it."""


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
