"""The version of the program, read from pyproject.toml.

CITATION.cff and google_colab.py, which stand alone, repeat it: tests/test_version.py compares them.
"""

import functools
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


@functools.cache
def program_version() -> str:
    """The version, such as "2.0.0".

    Raises:
        FileNotFoundError: pyproject.toml is missing, so the folder is no whole copy.
    """
    import tomllib  # late: doctor.py opens with an older Python, too, and says what to install

    if not PYPROJECT.is_file():
        raise FileNotFoundError(
            f"{PYPROJECT} is missing, which holds the version; get the whole folder of the project"
        )
    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["version"]
