"""The log of edits: whole lines, a torn end is dropped, damage is named."""

import base64
import json
import zlib

import numpy as np
import pytest
from app_tools import corrected_image, drawn_labels, random_edit, reopened

from nuclei.app.corrected import CorrectedImage
from nuclei.app.edit_log import EditLog, edit_pieces, encode_labels, start_labels
from nuclei.app.requests import Head


def edited(folder, num=6, seed=1):
    image, random = corrected_image(folder, drawn_labels(seed)), np.random.default_rng(seed)
    while image.revision < num:
        random_edit(image, random)
    return image


def test_a_file_cut_anywhere_gives_the_labels_of_its_whole_lines(tmp_path):
    image = edited(tmp_path)
    content, random = image.log.path.read_bytes(), np.random.default_rng(0)
    start = content.index(b"\n") + 1
    for end in sorted(random.integers(start, len(content), 20).tolist()):
        path = tmp_path / "cut.edits.jsonl"
        path.write_bytes(content[:end])
        cut = CorrectedImage(EditLog(path))
        assert cut.revision == content[:end].count(b"\n") - 1
        cut.edit(Head("delete", cut.revision), lambda draft, it=cut: delete_any(draft, it))
        again = CorrectedImage(EditLog(path))  # the torn line is gone, the new one is whole
        assert np.array_equal(again.canvas.labels, cut.canvas.labels)


def delete_any(draft, image):
    box, mask = draft.mask(min(image.canvas.boxes))
    draft.put(box, np.where(mask, 0, image.canvas.labels[box.place]))


def test_each_line_is_synced_before_it_counts(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(handle))
    image = edited(tmp_path, num=1)
    num = len(synced)
    image.accept(True)
    assert num >= 2 and len(synced) == num + 1  # the file and its folder, then the file


def test_a_line_that_could_not_be_written_whole_is_taken_back(tmp_path, monkeypatch):
    image = edited(tmp_path)
    before = image.log.path.read_bytes()

    def fail(handle):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError):
        image.accept(True)
    assert image.log.path.read_bytes() == before
    assert not image.summary.is_accepted


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines[:2] + [b"{"] + lines[2:], "line 3 is damaged"),
        (lambda lines: lines[:2] + [b"[1]"] + lines[2:], "line 3 is damaged"),
        (lambda lines: lines[1:], "not an edit log of this version"),
        (lambda lines: [lines[0].replace(b'"schema":1', b'"schema":9')], "update the program"),
        (lambda lines: [lines[0].replace(b'"labels":"iV', b'"labels":"AA')], "are damaged"),
        (lambda lines: [lines[0], b'{"kind":"undo"}'], "undo without an edit"),
        (lambda lines: [lines[0], b'{"kind":"x","pieces":[[0,9,0,9,"AA"]]}'], "edit is damaged"),
        (lambda lines: [lines[0], b'{"kind":"x","pieces":[[0,9,-5,900,""]]}'], "edit is damaged"),
        (lambda lines: [lines[0], b'{"kind":"x"}'], "edit is damaged"),
        (lambda lines: [lines[0], b'{"kind":"x","nuclei":null}'], "line 2 is damaged"),
        (lambda lines: [lines[0], b'{"kind":["x"]}'], "line 2 is damaged"),
        (lambda lines: [lines[0], b'{"kind":"x","key":[]}'], "line 2 is damaged"),
        (lambda lines: [lines[0].replace(b'"schema":1', b'"schema":"1"')], "line 1 is damaged"),
    ],
)
def test_damage_is_named_with_the_way_out(tmp_path, damage, message):
    image = edited(tmp_path)
    lines = damage(image.log.path.read_bytes().splitlines())
    image.log.path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(ValueError, match=message) as caught:
        reopened(image)
    assert "a.edits.jsonl" in str(caught.value) or "first labels" in str(caught.value)


def test_the_first_labels_may_have_more_ids_than_16_bits():
    labels = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    for content in (encode_labels(labels), encode_labels(labels % 500)):
        line = {"labels": base64.b64encode(content).decode()}
        expected = labels if content[:4] != b"\x89PNG" else labels % 500
        assert np.array_equal(start_labels(line), expected)


def test_a_piece_that_would_unpack_to_more_than_its_box_is_refused():
    bomb = base64.b64encode(zlib.compress(bytes(10**7))).decode()
    line = json.loads(json.dumps({"pieces": [[0, 2, 0, 2, bomb]]}))
    (box, pixels), *_ = edit_pieces(line, (10, 10))
    assert pixels.shape == box.shape == (2, 2)  # what is beyond the box is never unpacked


def test_a_log_that_another_program_changed_or_removed_takes_no_edit(tmp_path):
    for change in (lambda path: path.unlink(), lambda path: path.write_bytes(b"{}\n")):
        image = edited(tmp_path)
        change(image.log.path)
        left = image.log.path.exists() and image.log.path.read_bytes()
        before, revision = image.canvas.labels.copy(), image.revision
        with pytest.raises(ValueError, match="nothing was saved: put it back"):
            image.edit(Head("delete", revision), lambda draft, it=image: delete_any(draft, it))
        assert (image.log.path.exists() and image.log.path.read_bytes()) == left
        assert image.revision == revision and np.array_equal(image.canvas.labels, before)
        image.log.path.unlink(missing_ok=True)


def test_a_last_line_without_its_end_is_kept_and_ended(tmp_path):
    image = edited(tmp_path)
    image.log.path.write_bytes(image.log.path.read_bytes().rstrip(b"\n"))
    again = reopened(image)
    assert again.revision == image.revision
    again.accept(True)
    assert reopened(image).revision == image.revision and reopened(image).summary.is_accepted


def test_a_first_line_that_was_cut_off_begins_anew(tmp_path):
    path = edited(tmp_path).log.path
    first = path.read_bytes().splitlines()[0]
    for end in (1, 5, 16, 40, len(first) - 1):
        path.write_bytes(first[:end])
        image = edited(tmp_path, num=2)
        assert reopened(image).revision == 2
        path.unlink()


def test_a_file_of_the_user_in_the_place_of_a_log_stays(tmp_path):
    path = tmp_path / "a.edits.jsonl"
    for content in (b"my notes", b"my notes\n", b"{", b'{"kind":"other"'):
        path.write_bytes(content)
        if content == b"{":  # a log of which one character was written
            assert EditLog(path).read() == []
            continue
        with pytest.raises(ValueError, match=r"a.edits.jsonl: .* move"):
            EditLog(path).read()
        with pytest.raises(ValueError, match=r"a.edits.jsonl: .* move"):
            EditLog(path).add({"kind": "undo"})
        assert path.read_bytes() == content


def test_a_backup_by_hard_links_does_not_grow_with_the_log(tmp_path):
    image = edited(tmp_path)
    backup = tmp_path / "backup"
    backup.hardlink_to(image.log.path)
    before = backup.read_bytes()
    image.accept(True)
    assert backup.read_bytes() == before and reopened(image).summary.is_accepted
