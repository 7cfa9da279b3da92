"""Hostile requests are refused: another origin or host, no session, a spent token, huge bodies."""

import pytest

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from nuclei.app.guarding import EXPIRED, MAX_BODY, POLICY, Guard

PORT = 8123
OWN = f"http://127.0.0.1:{PORT}"
FROM_PAGE = {"origin": OWN, "x-nuclei": "1"}


def make(said=None):
    """(guard, client that has no session, what reached the application behind the guard)."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from nuclei.app.guarding import TooLarge
    from nuclei.app.routes import too_large

    reached = []

    async def anything(request):
        reached.append((request.method, await request.body()))
        return PlainTextResponse("inside")

    app = Starlette(
        routes=[Route("/{path:path}", anything, methods=["GET", "POST", "PUT"])],
        exception_handlers={TooLarge: too_large},
    )
    guard = Guard(app, PORT, (said if said is not None else []).append)
    return guard, TestClient(guard, base_url=OWN, follow_redirects=False), reached


def opened():
    """As `make`, with a session."""
    guard, client, reached = make()
    assert client.get(guard.address()).status_code == 303
    return guard, client, reached


def test_the_address_opens_the_page_once():
    said = []
    guard, client, _ = make(said)
    first = guard.address()
    response = client.get(first)
    assert response.status_code == 303 and response.headers["location"] == "/"
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert client.get("/").text == "inside"
    again = client.get(first)  # the same browser is let in
    assert again.status_code == 303 and again.headers["location"] == "/"
    client.cookies.clear()
    late = client.get(first)  # who reads it in a history is too late
    assert late.status_code == 401 and late.text == EXPIRED
    assert late.headers["content-type"].startswith("text/plain")
    assert client.get("/").status_code == 401
    assert said == [f"Another browser: {guard.address()}"] and guard.address() != first
    assert client.get(guard.address()).status_code == 303


@pytest.mark.parametrize("query", ("token=", "token=a", "token=%00", "token=ü", "token=a&token=b"))
def test_a_guessed_token_opens_nothing(query):
    _, client, reached = make()
    assert client.get(f"/?{query}").status_code == 401 and not reached


@pytest.mark.parametrize("cookie", ("", "a", 'nuclei_8123="', "nuclei_8123=", "nuclei_8123=abc"))
def test_without_a_session_nothing_is_shown_or_done(cookie):
    _, client, reached = make()
    headers = {**FROM_PAGE, "cookie": cookie}
    for path in ("/", "/api/state", "/page/app.css", "/api/images/a/nuclei"):
        assert client.get(path, headers=headers).status_code == 401
        assert client.post(path, headers=headers).status_code == 401
    assert not reached


@pytest.mark.parametrize(
    "host", ("evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:8123", "")
)
def test_another_host_is_refused_so_that_names_cannot_be_rebound(host):
    _, client, reached = opened()
    assert client.get("/", headers={"host": host}).status_code == 421
    assert client.post("/", headers={**FROM_PAGE, "host": host}).status_code == 421
    assert not reached


@pytest.mark.parametrize(
    "headers",
    (
        {},
        {"origin": OWN},
        {"x-nuclei": "1"},
        {"origin": "null", "x-nuclei": "1"},
        {"origin": "http://evil.example", "x-nuclei": "1"},
        {"origin": f"http://127.0.0.1:{PORT + 1}", "x-nuclei": "1"},
        {"origin": f"https://127.0.0.1:{PORT}", "x-nuclei": "1"},
        {"origin": f"http://localhost:{PORT}", "x-nuclei": "1"},
        {"origin": OWN, "x-nuclei": "2"},
    ),
)
def test_a_change_must_come_from_the_page_itself(headers):
    _, client, reached = opened()
    response = client.post("/api/state", headers=headers, content=b"{}")
    assert response.status_code == 403 and response.json()["message"]
    assert not reached


def test_the_page_may_change_things_and_other_methods_are_unknown():
    _, client, reached = opened()
    assert client.post("/x", headers=FROM_PAGE, content=b"hello").status_code == 200
    assert reached == [("POST", b"hello")]
    assert client.put("/x", headers=FROM_PAGE, content=b"hello").status_code == 405
    assert client.delete("/x", headers=FROM_PAGE).status_code == 405


def test_a_huge_body_is_refused_before_it_is_read_or_while_it_comes():
    _, client, reached = opened()
    large = b"a" * (MAX_BODY + 1)
    assert client.post("/x", headers=FROM_PAGE, content=large).status_code == 413
    for length in ("99999999999", "-1", "many"):
        headers = {**FROM_PAGE, "content-length": length}
        assert client.post("/x", headers=headers, content=b"a").status_code == 413

    def pieces():  # without a length in its head
        for _ in range(40):
            yield b"a" * 100_000

    assert client.post("/x", headers=FROM_PAGE, content=pieces()).status_code == 413
    assert not reached


def test_every_answer_forbids_foreign_code_and_caching():
    guard, client, _ = opened()
    answers = [client.get("/"), client.get("/", headers={"host": "x"}), client.post("/")]
    client.cookies.clear()
    answers += [client.get("/"), client.get(guard.address())]
    for response in answers:
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
    assert "unsafe" not in POLICY and "http" not in POLICY
