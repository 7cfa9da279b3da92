"""Zip archives from anywhere: checked before anything is unpacked.

    refuse_unsafe_archive(path, archive)
    names = [name for name in archive.namelist() if not is_companion(name)]

A zip from the internet may point outside its folder or unpack to more than the disk holds.
"""

import lzma
import stat
import zipfile
import zlib
from pathlib import Path

MAX_MEMBER_BYTES = 1 << 30  # of one archive member once unpacked; an image of DSB2018 has 10 MB
# Errors of a zip that is damaged, cut short or packed in a way that Python cannot unpack.
DAMAGED_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


def is_companion(name: str) -> bool:
    """Whether a member of an archive is what a system left beside the files (`__MACOSX`, `._a`)."""
    parts = name.replace("\\", "/").split("/")
    return "__MACOSX" in parts or parts[-1].startswith(".")


def refuse_unsafe_archive(path: Path, archive: zipfile.ZipFile) -> None:
    """Check the members of a zip before anything is unpacked.

    Raises:
        ValueError: a member would leave the folder that it is unpacked to, is a link, is encrypted
            or unpacks to more than MAX_MEMBER_BYTES.
    """
    for member in archive.infolist():
        parts = member.filename.replace("\\", "/").split("/")
        fault = None
        if not parts[0] or any(part == ".." or part[1:2] == ":" for part in parts):
            fault = "points outside the archive"
        elif stat.S_ISLNK(member.external_attr >> 16):
            fault = "is a symbolic link"
        elif member.file_size > MAX_MEMBER_BYTES:
            fault = f"unpacks to {member.file_size:,} bytes, more than {MAX_MEMBER_BYTES:,}"
        elif member.flag_bits & 1:
            fault = "is encrypted"
        if fault:
            raise ValueError(
                f"{path}: its member {member.filename!r} {fault}; nothing was unpacked, get the "
                "original archive"
            )
