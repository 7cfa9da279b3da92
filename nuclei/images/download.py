"""nuclei.images.download"""

import hashlib
import http.client
import os
import time
import urllib.request
import zipfile
import zlib
from pathlib import Path

from nuclei.cli import show_progress
from nuclei.files import first_line

RETRIES = 5  # downloads cut in a row before giving up
RETRY_SECONDS = 2.0  # pause where a retry brought nothing
TIMEOUT_SECONDS = 60.0  # without a byte from the server


def download(url: str, path, sha256: str | None = None) -> Path:
    """Fetch a zip to `path`; what has come lies in `path.part`, and a later call goes on from there (HTTP Range).

    The file takes its name only once its length is the announced one, every member passes its CRC, and the SHA-256 is
    the given one (where given). A file that is there already is verified, not fetched.

    Raises: OSError where the server cannot be reached or brings nothing RETRIES times in a row; ValueError where the
    content is not what was promised.
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is no http or https address")
    if not path.exists():
        part = path.with_name(path.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        whole, failures = False, 0
        while not whole:
            before, reason = size_of(part), "the connection was cut"
            try:
                whole = fetch_rest(url, part)
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                    raise OSError(f"{url}: {error}; check the address, or fetch it by hand and use --from") from error
                reason = first_line(error)
            failures = 0 if size_of(part) > before else failures + 1  # a cut after some progress is no failure
            if not whole and failures == RETRIES:
                raise OSError(
                    f"{url}: {reason} after {size_of(part):,} bytes, which are kept in {part}: run the same command "
                    "again to go on from there, or fetch the zip by hand and use --from"
                )
            if not whole and failures:
                time.sleep(RETRY_SECONDS)
        verify_zip(part, sha256)
        os.replace(part, path)
    else:
        verify_zip(path, sha256)
    return path


def size_of(path: Path) -> int:
    """Bytes of a file that may not exist yet."""
    return path.stat().st_size if path.exists() else 0


def fetch_rest(url: str, part: Path) -> bool:
    """Append to `part` what is missing of it: True where all announced bytes are there."""
    have = size_of(part)
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "import_data.py"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing lies beyond what we have
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return True
            part.unlink()  # longer than the file: another file, or an older one
            return False
        raise
    with response:
        announced = response.headers.get("Content-Length")
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server sends it all from the start
        total = have + int(announced) if announced else 0
        with open(part, "r+b" if have else "wb") as file:
            file.seek(have)
            while True:
                chunk = response.read(1 << 18)
                if not chunk:
                    break
                file.write(chunk)
                have += len(chunk)
                show_progress("downloading", have, total, "bytes")
            file.truncate()
    return not total or have == total


def verify_zip(path: Path, sha256: str | None) -> None:
    """Raises ValueError, and removes a `.part`, where the file is no sound zip or has another SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    why = None
    if sha256 and digest.hexdigest() != sha256.lower():
        why = f"has the SHA-256 {digest.hexdigest()}; expected {sha256.lower()}"
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
            why = f"has a damaged member, {bad}" if bad else None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            why = f"is no whole zip ({first_line(error)})"
    if why:
        way_out = "remove it and run again"
        if path.suffix == ".part":
            path.unlink()
            way_out = "it was removed, run again"
        raise ValueError(f"{path} {why}; {way_out}")
    print(f"{path}: {path.stat().st_size:,} bytes, every member sound, SHA-256 {digest.hexdigest()}")
