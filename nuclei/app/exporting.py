"""Files for other programs, of what the folder holds now: the formats of exports.py.

available_formats()                         # those whose packages are installed
export(workspace, ["geojson", "imagej"])    # to exports/
"""

from nuclei.app.edits import Refused
from nuclei.app.entry import ACCEPTED, PREDICTED, Entry
from nuclei.app.workspace import Workspace
from nuclei.files import first_line, named, plural
from nuclei.formats.predictions import measurements
from nuclei.formats.registry import FORMATS, Nuclei, write_formats
from nuclei.images.labels import without_gaps
from nuclei.images.stems import text_of
from nuclei.instances.measure import in_microns
from nuclei.machine import is_installed
from nuclei.written import Protected

FOLDER = "exports"


def available_formats() -> list[str]:
    """Names of the formats that can be written here."""
    return [name for name, it in FORMATS.items() if not it.package or is_installed(it.package)]


def nuclei_of(workspace: Workspace, entry: Entry) -> Nuclei:
    """The nuclei of an image as they are now, measured on its image."""
    picture = workspace.pictures.get(entry.key)
    corrected = workspace.corrected.get(entry.key)
    with corrected.lock:
        labels = without_gaps(corrected.canvas.labels)
    table = measurements(entry.stem, labels, picture.image, None)
    if picture.mpp is not None:
        table = table.assign(**in_microns(table, picture.mpp))
    table.insert(0, "image", entry.stem)
    return Nuclei(entry.stem, text_of(entry.path.name), labels, table, picture.mpp)


def export(workspace: Workspace, names: list[str]) -> dict:
    """Write all images that have nuclei, to exports/.

    Returns:
        {"folder", "files", "message"} for the page.

    Raises:
        Refused: there is nothing to write, or a format cannot be written here.
    """
    names = list(dict.fromkeys(names))
    if wrong := [name for name in names if name not in available_formats()]:
        raise Refused(f"The format {wrong[0][:40]!r} cannot be written here.")
    entries = [it for it in workspace.entries.values() if it.state in (PREDICTED, ACCEPTED)]
    if not entries:
        raise Refused("No image has nuclei yet.")
    out, faults, num_files = workspace.files.home / FOLDER, [], 0
    for entry in entries:
        try:
            write_formats(out, names, nuclei_of(workspace, entry))
            num_files += len(names)
        except (OSError, ValueError) as error:
            fault = str(error) if isinstance(error, Protected) else first_line(error)
            faults.append(f"{entry.path.name}: {fault}")
    message = f"{plural(num_files, 'file')} of {plural(len(entries), 'image')}."
    if faults:
        message += f" Left out: {named(faults)}."
    return {"folder": str(out), "files": num_files, "message": message}
