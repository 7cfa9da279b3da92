"""Download a zip of images and verify it: its SHA-256, and the checksum of each member.

    download("https://example.org/images.zip", "data/images.zip", sha256="9f86d0...")

The file is there as a whole or not at all. It comes by https only, also where the server sends its
reader on to another address, and has limits of size and time.
"""

import time
import zipfile
from pathlib import Path
from urllib.parse import urljoin

from nuclei.archives import DAMAGED_ARCHIVE, refuse_unsafe_archive
from nuclei.files import first_line, is_system_fault, replacing
from nuclei.full_disk import require_space
from nuclei.progress import Progress

PUBLIC_URL = "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"  # 670 images, 80 MB
PUBLIC_SHA256 = "dcb6edc2690f137406638b2309581a71522c4dff19157d118453b448dcddcb68"
SCHEMES = ("https://",)
MAX_BYTES = 4 << 30  # of a download
MAX_SECONDS = 4 * 3600  # until a download must be there
TIMEOUT_SECONDS = 60  # without a byte from the server
CHUNK_BYTES = 1 << 18  # between two updates of the progress


class DownloadBar:
    """The progress of a download and its limits, with the methods that pooch calls.

    Attributes:
        total: bytes that the server announces; pooch sets it. 0 where it announces none.
        folder: where the file goes.
    """

    def __init__(self, folder=".") -> None:
        self.total = self.num_bytes = 0
        self.folder, self.deadline = folder, time.monotonic() + MAX_SECONDS
        self.progress: Progress | None = None

    def update(self, num_bytes: int) -> None:
        """Count bytes that came. Pooch counts the last chunk as a full one: the rest is cut.

        Raises:
            ValueError: the file is larger than MAX_BYTES, or takes more than MAX_SECONDS.
            DiskFull: it does not fit on the disk.
        """
        self.num_bytes += num_bytes
        if max(self.total, self.num_bytes - CHUNK_BYTES) > MAX_BYTES:
            raise ValueError(f"has more than {MAX_BYTES:,} bytes, the most that is fetched")
        if time.monotonic() > self.deadline:
            raise ValueError(f"was not there after {MAX_SECONDS / 3600:g} hours")
        if self.progress is None:
            require_space(self.folder, self.total - num_bytes, "the bytes of the download")
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
        url: an https address.
        path: where the zip goes.
        sha256: the hash that the file must have, in hexadecimal digits.

    Returns:
        `path`.

    Raises:
        OSError: the server does not answer, or the connection is cut.
        ValueError: the address is of another kind, or the content is not what was promised.
    """
    path = Path(path)
    refuse_unsafe_address(url)
    if path.exists():
        if fault := zip_fault(path, sha256):
            raise ValueError(f"{path} {fault}; remove it and run again")
        return path
    with replacing(path) as temporary:
        fetch(url, temporary)
        if fault := zip_fault(temporary, sha256):
            raise ValueError(f"{url} {fault}; it was removed, run again or check the address")
    return path


def refuse_unsafe_address(url: str) -> None:
    """Raise ValueError where an address is not of SCHEMES: others could change what comes."""
    if not url.startswith(SCHEMES):
        raise ValueError(f"{url} is no https address")


def look_at_answer(response, *_, **__) -> None:
    """Refuse to be sent on to an unsafe address; `requests` calls this for each answer."""
    if response.is_redirect:
        refuse_unsafe_address(urljoin(response.url, response.headers["location"]))


def fetch(url: str, path: Path) -> None:
    """Write the content of an address to a file. Raises: OSError or ValueError in one line."""
    import pooch  # late: only a download needs it, and requests takes a while to import
    import requests

    bar = DownloadBar(path.parent)
    downloader = pooch.HTTPDownloader(
        progressbar=bar,
        chunk_size=CHUNK_BYTES,
        timeout=TIMEOUT_SECONDS,
        hooks={"response": look_at_answer},
    )
    try:
        downloader(url, str(path), None)
    except requests.RequestException as error:
        raise OSError(
            f"{url}: {first_line(error)}; check the address and run the same command again, or "
            "fetch the zip by hand and use --from"
        ) from error
    except ValueError as error:
        raise ValueError(f"{url} {error}; fetch the zip by hand and use --from") from None
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
            refuse_unsafe_archive(path, archive)
            member = archive.testzip()
    except (OSError, *DAMAGED_ARCHIVE) as error:
        if is_system_fault(error):
            raise
        return f"is no whole zip ({first_line(error)})"
    if member:
        return f"has a damaged member, {member}"
    print(f"{path.stat().st_size:,} bytes, every member sound, SHA-256 {digest}")
    return None
