"""The program that measures the page of app.py prints what it measured."""

import re

from experiments import app_page_speed as speed


def test_frames_and_edits_of_a_small_image_are_measured(browser, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "NUM_FRAMES", 5)
    monkeypatch.setattr(speed, "NUM_EDITS", 2)
    monkeypatch.setattr(speed, "SECONDS_TO_REST", 0.1)
    args = speed.parse_arguments(["--side", "300", "--num-nuclei", "12"])
    num_nuclei = speed.write_set(tmp_path / "set", args.side, args.num_nuclei)
    app, address = speed.start_app(tmp_path / "set")
    page = browser.new_page()
    try:
        page.goto(address)
        speed.measure(page, num_nuclei)
    finally:
        page.close()
        app.terminate()
        app.communicate(timeout=20)
    told = capsys.readouterr().out
    assert f"opened with {num_nuclei} nuclei" in told
    assert len(re.findall(r"\d+ frames/s, +[\d.]+ ms of processor each", told)) == 10
    assert re.search(r"edits, from the key to the picture: mean +[\d.]+ ms", told)
