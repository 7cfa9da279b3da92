"""The server on a folder of three images, and its page in a browser."""

import re

import pytest
from app_page_tools import Student, served, write_images

# The browser writes each refusal of the server to the console; the page shows it.
REFUSALS = re.compile(r"the server responded with a status of (409|422) \(")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "set"


@pytest.fixture
def predicted(folder):
    """{stem: labels} as the network found them."""
    return write_images(folder)


@pytest.fixture
def guard(folder, predicted):
    with served(folder) as guard:
        yield guard


@pytest.fixture
def visit(request, browser):
    """Opens pages. At the end none has written to the console, which also tells breaches of CSP.

    The pages are closed before the server goes: an open one would ask it for events in vain.
    """
    if "guard" in request.fixturenames:
        request.getfixturevalue("guard")
    trouble, contexts = [], []

    def note(text):
        if not REFUSALS.search(text):
            trouble.append(text)

    def open_page(guard, may_fail=False, **settings):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **settings})
        contexts.append(context)
        page = context.new_page()
        if not may_fail:  # a lost connection is told by the browser itself
            page.on("console", lambda message: note(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto(guard.address())
        return Student(page)

    yield open_page
    for context in contexts:
        context.close()
    assert not trouble


@pytest.fixture
def student(visit, guard):
    return visit(guard)
