"""The page by keyboard alone, and where the focus is."""

from app_page_tools import SIZE, free_place, isolated, middle

STRIDE_PX, SMALL_PX = 60, 6  # of the arrows, on the screen


def focused(student):
    return student.page.evaluate("document.activeElement.id || document.activeElement.tagName")


def tab_to(student, wanted):
    for _ in range(60):
        student.page.keyboard.press("Tab")
        if focused(student) == wanted:
            return
    raise AssertionError(f"Tab never reaches {wanted}")


def walk_to(student, row, column, small=False):
    """Move the cross to a pixel by arrow keys, to within a small step."""
    for forward, back, name, wanted in (
        ("ArrowRight", "ArrowLeft", "x", column),
        ("ArrowDown", "ArrowUp", "y", row),
    ):
        for stride, prefix in ((STRIDE_PX, ""), (SMALL_PX, "Shift+")):
            if small and not prefix:
                continue
            distance = (wanted - student.ask(f"viewer.{name}")) * student.ask("viewer.scale")
            for _ in range(round(abs(distance) / stride)):
                student.page.keyboard.press(prefix + (forward if distance > 0 else back))


def test_a_nucleus_is_deleted_and_one_drawn_without_a_mouse(student, predicted):
    labels = predicted["image0"]
    tab_to(student, "viewer")
    index = isolated(labels)[0]
    walk_to(student, *middle(labels, index))
    student.press("Enter")
    assert student.selected() == [index]
    student.press("Delete")
    assert index not in student.ids()
    student.press("Control+z")
    assert index in student.ids()

    ids = set(student.ids())
    row, column = free_place(labels)
    student.press("d")
    walk_to(student, row - 7, column - 7)
    student.press("Enter")
    for corner in ((-7, 7), (7, 7), (7, -7)):
        walk_to(student, row + corner[0], column + corner[1], small=True)
    student.press("Enter")
    assert len(set(student.ids()) - ids) == 1
    assert focused(student) == "viewer"
    student.press("a")
    student.hears("is accepted")
    assert focused(student) == "viewer"


def test_the_next_uncertain_nucleus_comes_to_the_middle(student):
    student.press(".")
    assert student.selected() == [1]  # the tests give it the least confidence
    x0, y0, x1, y1 = student.ask("session.nuclei.all.get(1).box")
    assert student.ask("[viewer.x, viewer.y]") == [(x0 + x1) / 2, (y0 + y1) / 2]
    student.press(".")
    assert student.selected() == [2]
    student.press(",")
    student.press(",")
    assert student.selected() == [max(student.ids())]


def test_keys_zoom_move_and_switch(student):
    whole = student.ask("viewer.scale")
    student.press("+")
    assert student.ask("viewer.scale") > whole
    student.press("0")
    assert student.ask("viewer.scale") == whole
    for key, mode in zip("1234", ("image", "masks", "overlay", "confidence"), strict=True):
        student.press(key)
        assert student.ask("viewer.mode") == mode
    student.press("n")
    assert student.ask("session.image.name") == "image1.png"
    student.press("p")
    assert student.ask("session.image.name") == "image0.png"


def test_each_key_is_in_the_help_once(student):
    student.press("?")
    assert student.page.locator("#help").is_visible()
    keys = student.page.locator("#key-rows kbd").all_text_contents()
    assert len(keys) == len(set(keys)) > 30
    student.page.keyboard.press("s")  # keys of the page rest behind the help
    student.page.keyboard.press("Escape")
    assert not student.page.locator("#help").is_visible()
    assert student.ask("desk.toolbar.tool") == "select"


def test_keys_can_be_kept_to_the_picture(student):
    student.press("?")
    student.page.locator("#hotkeys").uncheck()
    student.page.keyboard.press("Escape")
    student.page.evaluate("document.activeElement.blur()")
    student.press("d")
    assert student.ask("desk.toolbar.tool") == "select"
    student.page.locator("#viewer").focus()
    student.press("d")
    assert student.ask("desk.toolbar.tool") == "draw"


def test_the_focus_stays_when_the_list_is_ordered_anew(student):
    card = student.page.get_by_role("button", name="image1.png")
    card.focus()
    student.page.keyboard.press("Enter")
    student.settle()
    student.page.keyboard.press("a")
    student.hears("is accepted")
    names = student.page.locator("#list .name").all_text_contents()
    assert names == ["image0.png", "image2.png", "image1.png"]
    assert "image1.png" in student.page.evaluate("document.activeElement.textContent")


def test_all_that_can_be_clicked_has_a_name(student):
    nameless = student.page.evaluate(
        "[...document.querySelectorAll('button, input, canvas')].filter((it) => it.offsetParent"
        " && !(it.ariaLabel || it.textContent.trim() || it.labels?.length)).map((it) => it.id)"
    )
    assert nameless == []


def test_two_fingers_zoom_and_one_finger_draws(visit, guard, predicted):
    student = visit(guard, viewport={"width": 768, "height": 1024}, has_touch=True)
    client = student.page.context.new_cdp_session(student.page)

    def touch(kind, *places):
        points = [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(places)]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    x, y = student.spot(SIZE[0] / 2, SIZE[1] / 2)
    whole = student.ask("viewer.scale")
    touch("touchStart", (x - 40, y), (x + 40, y))
    for step in range(1, 9):
        touch("touchMove", (x - 40 - 10 * step, y), (x + 40 + 10 * step, y))
    touch("touchEnd")
    assert student.ask("viewer.scale") > 2 * whole and len(student.ids()) == 14
    student.press("0")
    student.press("d")
    row, column = free_place(predicted["image0"])
    corners = [(-8, -8), (-8, 8), (8, 8), (8, -8)]
    places = [student.spot(row + down, column + right) for down, right in corners]
    touch("touchStart", places[0])
    for place in places[1:]:
        touch("touchMove", place)
    touch("touchEnd")
    student.settle()
    assert len(student.ids()) == 15
