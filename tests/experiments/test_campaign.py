"""The campaign: its damage follows from a seed, and what goes wrong gets its name."""

import errno
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.campaign import kills, table
from experiments.campaign.cases import NAMES, Case
from experiments.campaign.damage import BY_FORM, damaged
from experiments.campaign.judge import Call, files_of, judge
from experiments.campaign.originals import make_originals
from experiments.campaign.plays import results_of
from experiments.campaign.small_disk import full_disk
from experiments.campaign.stage import PLACES
from experiments.campaign.workers import Limits, feed

ROOT = Path(__file__).resolve().parents[2]
ORIGINALS = make_originals()
CASE = Case("a.png", "bytes", "predict", ["predict", "in"], Path("in/a.png"), "out/masks/good.png")
SEED = 63  # of a small campaign with three ways of being interrupted
LINE = "predict.py: in/a.png is damaged; copy it again\n"


def test_damage_follows_from_the_seed_and_reaches_every_form():
    assert {original.form for original in ORIGINALS} - {""} < set(BY_FORM)
    for original in ORIGINALS:
        changed = 0
        for seed in range(12):
            one, other = (
                damaged(original.content, original.form, random.Random(seed)) for _ in range(2)
            )
            assert one[0] == other[0] and one[1] == other[1]
            changed += one[0] != original.content
        assert changed > 6, original.name


def test_each_hostile_name_is_one_name_of_a_file():
    assert not [name for name in NAMES if b"/" in name or b"\0" in name or len(name) > 251]


def test_an_input_that_cannot_be_made_is_named_and_the_others_go_on(tmp_path):
    def make(number, room):
        if number == 1:
            os._exit(7)
        (room / "in").mkdir()
        return CASE._replace(argv=["predict", "--help"])

    rows = {row["number"]: row for row in feed([0, 1, 2, 3], make, tmp_path, Limits(60, workers=2))}
    assert set(rows) == {0, 1, 2, 3}
    assert [number for number in rows if rows[number]["outcome"] == "crash"] == [1]
    assert "7" in rows[1]["detail"] and rows[1]["kind"] == "(not made)"


@pytest.fixture
def room(tmp_path):
    """A folder as a program leaves it that did all that it could."""
    for name in ("in/a.png", "in/good.png", "out/masks/good.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (Call(0, "done\n", ""), "read"),
        (Call(1, "", LINE), "refused"),
        (Call(2, "", LINE), "refused"),
        (Call(None, "", "", "ValueError: x"), "traceback"),
        (Call(1, "", "Traceback (most recent call last):\n"), "traceback"),
        (Call(134, "", LINE), "status"),
        (Call(1, "", ""), "unclear"),
        (Call(1, "", "predict.py: no\n"), "unclear"),
        (Call(1, "", LINE + "a.png" * 1000), "unclear"),
        (Call(1, "", LINE + "libpng warning: iCCP\n"), "noise"),
        (Call(0, "<TiffTag 0> UserWarning: odd\n", ""), "noise"),
    ],
)
def test_each_end_of_a_program_has_a_word(room, call, outcome):
    assert judge(CASE, room, files_of(room), call)[0] == outcome


def test_what_is_lost_or_left_behind_is_found(room):
    before, call = files_of(room), Call(1, "", LINE)
    (room / "out" / ".0123abcd.png").touch()
    assert judge(CASE, room, before, call)[0] == "litter"
    (room / "out" / "masks" / "good.png").unlink()
    assert judge(CASE, room, before, call)[0] == "lost"
    (room / "in" / "good.png").write_text("changed")
    assert judge(CASE, room, before, call) == (
        "lost",
        "input changed or gone: ['in/good.png']",
    )


def test_results_are_compared_without_their_times(tmp_path):
    import h5py

    folders = tmp_path / "one", tmp_path / "two"
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / "a.csv").write_text(f"image,seconds\na,{number}\n")
        (folder / "a.json").write_text(json.dumps({"rows": [{"seconds": number, "loss": 1}]}))
        (folder / "a.html").write_text(f"{number}</html>\n")
        (folder / "written.jsonl").write_text(str(number))
        (folder / ".nuclei.lock").write_text(str(number))
        with h5py.File(folder / "a.h5", "w") as file:
            file.attrs["date"] = number
            file["weights"] = np.ones(3)
    assert results_of(folders[0]) == results_of(folders[1]) and len(results_of(folders[0])) == 4
    (folders[1] / "a.csv").write_text("image,seconds\nb,1\n")
    (folders[1] / "a.html").write_text("<html>")
    (folders[1] / "a.json").write_text(json.dumps({"rows": [{"loss": 2}]}))
    with h5py.File(folders[1] / "a.h5", "r+") as file:
        file["weights"][0] = 2
    differences = dict(results_of(folders[0]).items() - results_of(folders[1]).items())
    assert sorted(differences) == ["a.csv", "a.h5", "a.html", "a.json"]


@pytest.mark.parametrize("is_root", [True, False])
def test_a_full_disk_is_full_until_it_grows(tmp_path, monkeypatch, is_root):
    if not is_root:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with full_disk(tmp_path, 40_000) as grow:
        (tmp_path / "small").write_bytes(bytes(20_000))
        with pytest.raises(OSError) as raised:
            (tmp_path / "large").write_bytes(bytes(100_000))
        assert raised.value.errno in (errno.ENOSPC, errno.EFBIG)
        grow()
        (tmp_path / "large").write_bytes(bytes(100_000))


@pytest.mark.parametrize("has_proc", [True, False])
def test_a_run_is_killed_by_its_own_time_where_the_system_tells_it(tmp_path, monkeypatch, has_proc):
    if not has_proc:
        monkeypatch.setattr(kills, "PROC", tmp_path)
    elif not kills.PROC.exists():
        pytest.skip("the system has no /proc")
    with subprocess.Popen(["sleep", "60"]) as idle:
        worked = kills.seconds_worked(idle.pid, time.monotonic() - 50)
        idle.kill()
    assert worked < 5 if has_proc else worked >= 50
    before, start = kills.seconds_worked(os.getpid(), time.monotonic()), time.process_time()
    while has_proc and time.process_time() - start < 0.1:
        pass
    assert not has_proc or kills.seconds_worked(os.getpid(), 0) > before + 0.05


def test_the_table_counts_outcomes_by_kind(tmp_path):
    from types import SimpleNamespace

    rows = [
        {"number": 0, "kind": "a.png", "reader": "predict", "outcome": "read"},
        {"number": 1, "kind": "a.png", "reader": "predict", "outcome": "hang"},
        {"kill": 0, "play": "train", "how": "SIGKILL", "outcome": "equal"},
    ]
    text = table.write_table(SimpleNamespace(seed=3, out=tmp_path), rows)
    assert "2 inputs and 1 interruptions, seed 3" in text
    assert "| a.png | 2 | 1 | 0 | 0 | 1 |" in text and "| train: SIGKILL | 1 | 1 |" in text
    assert (tmp_path / "table.md").read_text() == text


def run_campaign(out, *flags):
    command = [sys.executable, "-m", "experiments.campaign", "--out", out, *flags]
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)


def test_a_small_campaign_finds_nothing_and_goes_on_where_it_stopped(tmp_path):
    """An input of each kind and some kills. It runs in a process of its own, since it forks."""
    pytest.importorskip("uvicorn")
    out, num_kinds = tmp_path / "campaign", len(ORIGINALS) + len(PLACES)
    flags = ["--seed", SEED, "--kills", 3, "--programs", "evaluate", "app"]
    done = run_campaign(out, "--inputs", num_kinds, "--workers", 2, "--seconds", 300, *flags)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len({row["kind"] for row in rows if "number" in row}) == num_kinds
    assert {row["how"] for row in rows if "play" in row} == {"SIGTERM", "full disk", "two at once"}
    assert not (out / "failed").exists() and not list((out / "work").glob("*"))
    again = run_campaign(out, "--inputs", num_kinds, *flags)
    lines = (out / "results.jsonl").read_text().splitlines()
    assert again.returncode == 0 and len(lines) == num_kinds + 3
    shown = run_campaign(out, "--replay", 3, "--seed", SEED)
    assert shown.returncode == 0 and "palette.png" in shown.stdout
