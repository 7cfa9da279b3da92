"""One version number stands everywhere; the exact versions of the lock lie in the ranges."""

import importlib
import re
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import nuclei
from nuclei import version
from nuclei.checkup.packages import FOR_TESTS, NEEDED, read_requirements

ROOT = Path(__file__).resolve().parent.parent
WITHOUT_FLAGS = {"unet", "google_colab"}
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py") if path.stem not in WITHOUT_FLAGS)
EXPERIMENTS = (
    "ablation",
    "app_speed",
    "clicks",
    "few_images",
    "otsu",
    "stress",
    "strip",
)
VERSION = version.program_version()


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*SCRIPTS, *(f"experiments.{name}" for name in EXPERIMENTS)])
def test_every_script_says_its_version(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(name).main(["--version"])
    assert not stopped.value.code
    assert capsys.readouterr().out.split()[-1] == VERSION


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_can_be_quiet(name, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(name).main(["--help"])
    assert "--quiet" in capsys.readouterr().out


def test_the_version_is_the_same_everywhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION) and nuclei.__version__ == VERSION
    assert re.search(r"^version: (.*)$", read("CITATION.cff"), re.M)[1] == VERSION
    assert re.search(r"^## \[(.*?)\]", read("CHANGELOG.md"), re.M)[1] in (VERSION, "Unreleased")
    assert f"## [{VERSION}]" in read("CHANGELOG.md")
    assert f'"nuclei": "{VERSION}"' in read("google_colab.py")  # the cell stands alone


def test_a_copy_without_the_version_is_no_whole_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(version, "PYPROJECT", tmp_path / "pyproject.toml")
    version.program_version.cache_clear()
    with pytest.raises(FileNotFoundError, match="get the whole folder of the project"):
        version.program_version()
    monkeypatch.undo()
    assert version.program_version() == VERSION


def locked_versions():
    """{name: exact versions} of requirements.lock; a package may have one for each Python."""
    entries = re.split(
        r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", read("requirements.lock"), flags=re.M)
    )
    versions = {}
    for entry in entries:
        name, exact = re.match(r"([a-z0-9.-]+)==(\S+)", entry).groups()
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name
        versions.setdefault(name, []).append(exact)
    return versions


def test_the_lock_has_a_version_within_the_range_of_every_package():
    locked = locked_versions()
    for path in (NEEDED, FOR_TESTS):
        for name, specifiers in read_requirements(path).items():
            versions = locked[name.replace("_", "-").replace(".", "-")]
            assert all(exact in SpecifierSet(specifiers) for exact in versions), name


def test_the_lock_names_no_address():
    assert not re.search(r"://|index-url|find-links", read("requirements.lock"))
