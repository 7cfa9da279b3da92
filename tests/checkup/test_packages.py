"""Packages are compared with the ranges of the requirement files."""

import sys

import pytest

from nuclei.checkup import packages
from nuclei.checkup.packages import (
    FOR_TESTS,
    NEEDED,
    OPTIONAL,
    VARIANTS,
    fits,
    installed_version,
    missing_and_misfits,
    read_requirements,
)
from nuclei.formats.registry import FORMATS
from nuclei.images.microscopes import PACKAGES
from nuclei.slides.readers import OPENSLIDE_PACKAGES


def test_ranges_are_read_without_comments_and_references(tmp_path):
    lines = ["# comment", "-r other.txt", "Numpy>=2,<3  # arrays", "", "zarr", "torch>=2; os<'4'"]
    (tmp_path / "r.txt").write_text("\n".join(lines))
    expected = {"numpy": ">=2,<3", "zarr": "", "torch": ">=2"}
    assert read_requirements(tmp_path / "r.txt") == expected


def test_the_requirement_files_name_all_that_is_asked_about():
    needed = read_requirements(NEEDED)
    assert {"tensorflow", "keras", "numpy"} <= set(needed) and set(VARIANTS) <= set(needed)
    untested = {"bioio-nd2", "bioio-lif", "kaleido"}
    assert set(OPTIONAL) - set(read_requirements(FOR_TESTS)) == untested


def test_the_optional_packages_are_all_that_the_program_asks_for():
    formats = {format.package for format in FORMATS.values()} - {None}
    asked = {"bioio", *PACKAGES.values(), *OPENSLIDE_PACKAGES.split(), *formats}
    assert asked <= set(OPTIONAL)


def test_missing_packages_and_other_versions_are_told_apart(monkeypatch):
    installed = {"numpy": "1.26.4", "keras": "3.13.0", "tensorflow": None}
    monkeypatch.setattr(packages, "installed_version", installed.get)
    ranges = {"numpy": ">=2,<3", "keras": ">=3.12,<4", "tensorflow": ">=2.19"}
    assert missing_and_misfits(ranges) == (["tensorflow"], ["numpy 1.26.4 (expected >=2,<3)"])


def test_another_build_of_a_package_counts(monkeypatch):
    def version(name):
        if name == "tensorflow-cpu":
            return "2.21.0"
        raise packages.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "version", version)
    assert installed_version("tensorflow") == "2.21.0"
    assert installed_version("keras") is None


@pytest.mark.parametrize("version", ["2.19.0", "2.21.0rc1"])
def test_versions_fit_their_range_also_before_their_release(version, monkeypatch):
    assert fits(version, ">=2.19,<2.22") and not fits("2.18", ">=2.19,<2.22")
    monkeypatch.setitem(sys.modules, "packaging.specifiers", None)
    assert fits("2.18", ">=2.19,<2.22")  # unknown without packaging
