"""Download a zip of images and verify it: its SHA-256, and the checksum of each member.

    download("https://example.org/images.zip", "data/images.zip", sha256="9f86d0...")

The file is there as a whole or not at all.
"""

import zipfile
from pathlib import Path

from nuclei.archives import DAMAGED_ARCHIVE
from nuclei.files import first_line, replacing
from nuclei.progress import Progress

TIMEOUT_SECONDS = 60  # without a byte from the server
CHUNK_BYTES = 1 << 18  # between two updates of the progress


class DownloadBar:
    """The progress of a download, with the methods that pooch calls.

    Attributes:
        total: bytes that the server announces; pooch sets it. 0 where it announces none.
    """

    def __init__(self) -> None:
        self.total = 0
        self.progress: Progress | None = None

    def update(self, num_bytes: int) -> None:
        """Count bytes that came. Pooch counts the last chunk as a full one: the rest is cut."""
        if self.progress is None:
            self.progress = Progress("Downloading", self.total, "bytes", log=True)
        num_left = self.total - self.progress.done
        if num_left > 0:
            self.progress.add(min(num_bytes, num_left))

    def reset(self) -> None:
        """Do nothing: pooch then counts all bytes once more."""

    def close(self) -> None:
        """Close the line on the terminal."""
        if self.progress is not None:
            self.progress.close()


def download(url: str, path, sha256: str | None = None) -> Path:
    """Fetch a zip to `path` and verify it. A file that is already there is verified, not fetched.

    The file takes its name only when it is whole and verified. A download that fails leaves nothing
    behind and is not resumed.

    Args:
        url: an http or https address.
        path: where the zip goes.
        sha256: the hash that the file must have, in hexadecimal digits.

    Returns:
        `path`.

    Raises:
        OSError: the server does not answer, or the connection is cut.
        ValueError: the address is of another kind, or the content is not what was promised.
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is no http or https address")
    if path.exists():
        if fault := zip_fault(path, sha256):
            raise ValueError(f"{path} {fault}; remove it and run again")
        return path
    with replacing(path) as temporary:
        fetch(url, temporary)
        if fault := zip_fault(temporary, sha256):
            raise ValueError(f"{url} {fault}; it was removed, run again or check the address")
    return path


def fetch(url: str, path: Path) -> None:
    """Write the content of an address to a file. Raises: OSError in one line."""
    import pooch  # late: only a download needs it, and requests takes a while to import
    import requests

    bar = DownloadBar()
    downloader = pooch.HTTPDownloader(
        progressbar=bar, chunk_size=CHUNK_BYTES, timeout=TIMEOUT_SECONDS
    )
    try:
        downloader(url, str(path), None)
    except requests.RequestException as error:
        raise OSError(
            f"{url}: {first_line(error)}; check the address and run the same command again, or "
            "fetch the zip by hand and use --from"
        ) from error
    finally:
        bar.close()


def zip_fault(path: Path, sha256: str | None) -> str | None:
    """What is wrong with a zip, in words; None where its hash and every member are right."""
    import pooch

    digest = pooch.file_hash(str(path))
    if sha256 and digest != sha256.lower():
        return f"has the SHA-256 {digest}; expected {sha256.lower()}"
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except DAMAGED_ARCHIVE as error:
        return f"is no whole zip ({first_line(error)})"
    if member:
        return f"has a damaged member, {member}"
    print(f"{path.stat().st_size:,} bytes, every member sound, SHA-256 {digest}")
    return None
