"""One folder of predictions for all tests of the page."""

import shutil

import pytest
from browser_tools import wait
from report_tools import make, write_evaluated_predictions


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    return write_evaluated_predictions(tmp_path_factory.mktemp("report"))


@pytest.fixture
def folder(original, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(original, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="session")
def visit(browser):
    """Opens a page. At the end, no page has written to the console or requested anything."""
    trouble, expected = [], []

    def check(url, path):
        if not url.startswith(("data:", "blob:", path.as_uri())):
            trouble.append(url)

    def open_page(path, errors=0, plots=True, script=None, **settings):
        context = browser.new_context(**{"viewport": {"width": 1366, "height": 900}, **settings})
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: check(request.url, path))
        if script:
            page.add_init_script(script)
        page.goto(path.as_uri())
        if plots:
            page.wait_for_selector("html[data-plots]", state="attached", timeout=120_000)
        expected.append(errors)
        return page

    yield open_page
    for context in browser.contexts:
        context.close()
    assert len(trouble) == sum(expected), trouble


@pytest.fixture(scope="session")
def opened(visit, shown):
    """One page for many tests: to open it takes longer than most of them."""
    return visit(shown)


@pytest.fixture
def page(opened):
    """That page as it was when it was opened."""
    opened.evaluate(
        """() => {
          select(() => false);
          for (const id of ["find", "kind", "group", "from", "to"]) $(id).value = "";
          $("hotkeys").checked = true;
          document.activeElement.blur();
          $("flagged").checked = false;
          $("scope").querySelector("[value=one]").checked = true;
          $("across").value = "diameter_px";
          $("up").value = "circularity";
          Object.assign(view.opacity, { masks: 1, overlay: 1 });
          $("reset").click();
          setMode("overlay");
          show(0);
          scrollTo(0, 0);
        }"""
    )
    wait(opened, "document.documentElement.dataset.shown === images[0].stem")
    return opened


@pytest.fixture(scope="session")
def shown(original, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert make(original, "--groups", str(original / "groups.csv"), out=out) == 0
    return out
