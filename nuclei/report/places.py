"""Where the images and the model of a folder of predictions lie, as summary.csv says.

folders = image_folders(folder, rows)      # {stem: [folder]}
pictures = find_pictures(rows, folders)    # {stem: path}
"""

import os
from pathlib import Path

from nuclei.cli import INPUT_DIR
from nuclei.files import named
from nuclei.images.stems import text_of


def model_used(predictions):
    """The model file that predict.py used, or None where its table does not say, or it is gone."""
    names = [row["model"] for row in predictions.rows if row.get("model")]
    path = near(predictions.folder, names[-1]) if names else None
    return path if path and os.path.isfile(path) else None


def image_folders(folder, rows):
    """Where predict.py read each image: {stem: [folder]}, INPUT_DIR where its table has none."""
    return {
        row["image"]: [near(folder, row["folder"])] if row.get("folder") else [Path(INPUT_DIR)]
        for row in rows
    }


def near(folder, way):
    """The path that `seen_from` described, as short as from the current directory."""
    path = Path(os.path.normpath(Path(folder).absolute() / way))
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def find_pictures(rows, folders):
    """Find the image of each row by the file name in the table.

    Args:
        rows: of summary.csv.
        folders: {stem: Paths}; the first one that has the file counts.

    Returns:
        dict, stem → path, without the images that are missing.

    Raises:
        FileNotFoundError: a folder is missing, or no folder holds any of the images.
    """
    all_folders = list(dict.fromkeys(folder for paths in folders.values() for folder in paths))
    for folder in all_folders:
        if not os.path.isdir(folder):  # also of a name that no disk takes
            raise FileNotFoundError(
                f"{folder}: no such folder, though summary.csv or --images names it; give the "
                "folders with the images that were predicted: --images"
            )
    pictures = {}
    names = {folder: {text_of(name): name for name in os.listdir(folder)} for folder in all_folders}
    for row in rows:
        for folder in folders[row["image"]]:
            path = folder / names[folder].get(row["file"], row["file"])
            if os.path.isfile(path):
                pictures.setdefault(row["image"], path)
    if not pictures:
        files = named(row["file"] for row in rows)
        raise FileNotFoundError(
            f"{named(all_folders)}: none of the predicted images is there ({files}); give the "
            "folders that hold them: --images"
        )
    return pictures
