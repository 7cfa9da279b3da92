"""The image files of a folder, by their stems.

    find_images("my_images")["a"]               # my_images/a.png

Each stem names one image; two files of one stem are refused.
"""

from collections.abc import Iterable
from pathlib import Path

from nuclei.files import named
from nuclei.images.reading import IMAGE_SUFFIXES
from nuclei.images.stems import stem_of


def image_files(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, list[Path]]:
    """The files of a folder that end in one of `suffixes`.

    Returns:
        {stem: paths}, sorted; empty where the folder is missing. Hidden files are left out.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        # macOS writes companions of real files with a leading dot (._a.png); they are no images.
        is_wanted = path.name.lower().endswith(tuple(suffixes)) and not path.name.startswith(".")
        if is_wanted and path.is_file():
            files.setdefault(stem_of(path, suffixes), []).append(path)
    return {stem: files[stem] for stem in sorted(files)}


def find_images(folder, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The image files of a folder.

    Returns:
        {stem: path}, sorted by stem.

    Raises:
        FileNotFoundError: the folder is missing.
        ValueError: it holds no image, or one stem twice.
    """
    folder = Path(folder)
    if not folder.is_dir():
        fault = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"{folder} {fault}; expected a folder of images ({', '.join(suffixes)})"
        )
    files = image_files(folder, suffixes)
    if not files:
        others = [path.name for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        instead = f" but {named(others)}" if others else ""
        raise ValueError(
            f"{folder} holds no image{instead}; expected files ending in {', '.join(suffixes)}"
        )
    repeated = [
        " = ".join(path.name for path in paths) for paths in files.values() if len(paths) > 1
    ]
    if repeated:
        raise ValueError(
            f"{folder}: {len(repeated)} stem(s) appear more than once ({named(repeated)}); keep "
            "one of each"
        )
    return {stem: paths[0] for stem, paths in files.items()}
