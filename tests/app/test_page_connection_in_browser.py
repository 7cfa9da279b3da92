"""Lost connections, a server that is started anew, and two browsers at once."""

import numpy as np
from app_page_tools import isolated, middle, served, truth
from browser_tools import wait

EDITS = "**/api/images/*/edits"
KEEP = "localStorage.setItem(argument[0], JSON.stringify([argument[1]]))"


def test_edits_wait_for_a_lost_connection_and_are_sent_in_order(visit, guard, folder, predicted):
    labels = predicted["image0"]
    student = visit(guard, may_fail=True)
    first = isolated(labels)[0]
    is_lost, sent = [True], []

    def pass_on(route):
        if is_lost:
            route.abort()
        else:
            sent.append(route.request.post_data_json["kind"])
            route.continue_()

    student.page.route(EDITS, pass_on)
    student.click(*middle(labels, first))
    student.page.keyboard.press("g")
    student.page.keyboard.press("g")
    student.page.keyboard.press("Delete")
    wait(student.page, "document.getElementById('saved').textContent === '3 corrections not sent'")
    assert "3 corrections are kept" in student.page.locator("#trouble").text_content()
    student.click(*middle(labels, first))  # a deleted nucleus is gone at once
    assert student.selected() == []
    is_lost.clear()
    student.settle()
    assert sent == ["grow", "grow", "delete"] and first not in student.ids()
    assert not student.page.locator("#trouble").is_visible()
    assert student.ask("session.image.undo") == 3


def test_an_edit_whose_answer_was_lost_is_done_once(visit, guard, predicted):
    student = visit(guard, may_fail=True)
    index, tries = isolated(predicted["image0"])[0], []

    def lose_the_first_answer(route):
        tries.append(route.request.post_data_json["key"])
        answer = route.fetch()
        if len(tries) == 1:
            route.abort()
        else:
            route.fulfill(response=answer)

    student.page.route(EDITS, lose_the_first_answer)
    student.click(*middle(predicted["image0"], index))
    student.press("g")
    assert len(tries) == 2 and len(set(tries)) == 1
    assert student.ask("session.image.undo") == 1


def test_a_closed_tab_loses_nothing_while_the_server_is_started_anew(visit, folder, predicted):
    labels = predicted["image0"]
    index = isolated(labels)[0]
    with served(folder) as guard:
        student = visit(guard, may_fail=True)
        student.click(*middle(labels, index))
        student.press("g")
        port = guard.port
    student.page.keyboard.press("Delete")
    wait(student.page, "document.getElementById('saved').textContent === '1 correction not sent'")
    context = student.page.context
    with served(folder, port) as guard:
        text = student.page.locator("#trouble")
        wait(student.page, "document.getElementById('trouble').textContent.includes('address')")
        assert "1 correction is kept" in text.text_content()
        student.page.close(run_before_unload=False)
        page = context.new_page()
        page.goto(guard.address())
        student = type(student)(page)
        student.settle()
        assert index not in student.ids() and student.ask("session.image.undo") == 2
        student.press("a")
        student.hears("is accepted")
    expected = labels.max() - 1
    assert truth(folder, "image0").max() == expected


def test_two_browsers_see_the_edits_of_each_other(visit, guard, predicted):
    labels = predicted["image0"]
    one, other = visit(guard), visit(guard)
    first, second, *_ = isolated(labels)
    one.click(*middle(labels, first))
    one.press("Delete")
    wait(other.page, "document.getElementById('said').textContent.includes('another browser')")
    assert first not in other.ids()
    other.click(*middle(labels, second))
    other.press("Delete")
    wait(one.page, "document.getElementById('said').textContent.includes('another browser')")
    np.testing.assert_array_equal(one.ids(), other.ids())
    one.press("a")
    other.page.locator("[data-state=accepted]").wait_for()


def test_an_edit_of_what_another_browser_changed_is_shown_and_can_be_repeated(
    visit, guard, predicted
):
    labels = predicted["image0"]
    one, other = visit(guard), visit(guard, may_fail=True)  # 409 stands in the console
    index = isolated(labels)[0]
    other.page.route("**/nuclei?since=*", lambda route: route.abort())  # it hears too late
    one.click(*middle(labels, index))
    one.press("g")
    for answer, is_done in (("Leave it", False), ("Repeat my correction", True)):
        other.press("v")
        other.ask("(session.nuclei.revision = 0)")
        other.click(*middle(labels, index))
        other.page.keyboard.press("Delete")
        other.page.get_by_role("button", name=answer).wait_for()
        assert index in other.ids()
        other.page.get_by_role("button", name=answer).click()
        other.settle()
        assert (index not in other.ids()) is is_done


def test_edits_of_another_folder_wait_until_it_is_open(visit, guard, predicted):
    """The address of the program is the same for each folder, and so is the storage there."""
    student, index = visit(guard), isolated(predicted["image0"])[0]
    item = {"image": student.ask("session.current"), "folder": "0" * 16}
    item["edit"] = {"kind": "delete", "ids": [index], "base": 0, "key": "a" * 32}
    name = "nuclei-unsent-edits of another tab"
    student.ask(KEEP, [name, item])
    student.page.reload()
    student.settle()
    assert index in student.ids() and student.ask("session.image.undo") == 0
    assert student.ask("JSON.parse(localStorage.getItem(argument)).length", name) == 1
    own = student.ask("session.state.folder_key")
    item["folder"] = own
    student.ask(KEEP, [name, item])
    student.page.reload()
    student.settle()
    assert index not in student.ids()


def test_an_edit_in_between_is_seen_by_all_edits_that_wait(visit, guard, predicted):
    labels = predicted["image0"]
    one, other = visit(guard, may_fail=True), visit(guard)
    first, second, *_ = isolated(labels)
    is_lost = [True]
    one.page.route(EDITS, lambda route: route.abort() if is_lost else route.continue_())
    one.click(*middle(labels, first))
    one.page.keyboard.press("g")
    one.click(*middle(labels, second))
    one.page.keyboard.press("Delete")
    wait(one.page, "document.getElementById('saved').textContent === '2 corrections not sent'")
    other.click(*middle(labels, second))
    other.press("g")
    is_lost.clear()
    one.page.get_by_role("button", name="Leave it").click()
    one.settle()
    assert second in one.ids() and second in other.ids()
