"""Who is refused: by what a browser says of a request, whoever wrote the page that sent it."""

from __future__ import annotations

import pytest

from fleet.console.guard import Asked, Secrets, judge

KNOWN = Secrets(key="the-key", token="the-token", name="gf")
OWN = {
    "host": "127.0.0.1:8600",
    "cookie": "gf=the-key",
    "origin": "http://127.0.0.1:8600",
    "sec-fetch-site": "same-origin",
    "sec-fetch-mode": "cors",
    "x-goldenfleet-token": "the-token",
    "content-type": "application/json",
}


def code(method: str = "POST", path: str = "/drain", query: str = "", **changed: str | None) -> str | None:
    headers = {**OWN, **{name.replace("_", "-"): value for name, value in changed.items()}}
    refusal = judge(Asked(method, path, query, {k: v for k, v in headers.items() if v is not None}), KNOWN)
    return refusal.code if refusal else None


def test_its_own_page_may() -> None:
    """Everything right is let through, over a forwarded port and by name, too."""
    assert code() is None
    assert code(host="localhost:9999", origin="http://localhost:9999") is None
    assert code(host="[::1]:8600", origin="http://[::1]:8600") is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8600",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "169.254.1.1",
        "",
        "[::1",
        "127.0.0.1@evil.example",
        "evil@127.0.0.1",
        "0.0.0.0:8600",
        "2130706433",
    ],
)
def test_foreign_names_are_refused(host: str) -> None:
    """A name that somebody points at 127.0.0.1 does not make his page ours."""
    assert code(host=host, origin=f"http://{host}") == "host_refused"


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:8600"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "http://localhost:8600"},
        {"sec_fetch_site": "cross-site", "origin": None},
        {"sec_fetch_site": "same-site", "origin": None},
        {
            "sec_fetch_site": "cross-site",
            "sec_fetch_mode": "navigate",
            "sec_fetch_dest": "document",
            "origin": None,
        },
    ],
)
def test_other_pages_are_refused(changed: dict[str, str | None]) -> None:
    """Whatever they know: another origin, another port of this machine, a frame, a form."""
    assert code(**changed) == "origin_refused"


@pytest.mark.parametrize("dest", ["iframe", "embed", "script", "empty"])
def test_the_page_is_no_part_of_another(dest: str) -> None:
    """Another site may lead to the page, and not hold it."""
    away = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "origin": None}
    assert code("GET", "/", sec_fetch_dest=dest, **away) == "origin_refused"
    assert code("GET", "/events", sec_fetch_dest="document", **away) == "origin_refused"
    assert code("POST", "/", sec_fetch_dest="document", **away) == "origin_refused"
    assert code("GET", "/", "key=the-key", sec_fetch_dest="document", cookie=None, **away) is None


@pytest.mark.parametrize(
    "cookie", [None, "gf=wrong", "gf=", "other=the-key", "gf=\x00", "=;;;", "gf=thé-key"]
)
def test_no_key_no_page(cookie: str | None) -> None:
    """Other users of the machine reach the port, and see nothing."""
    assert code("GET", "/events", cookie=cookie) == "key_missing"
    assert code("GET", "/", cookie=cookie) == "key_missing"
    assert code(cookie=cookie) == "key_missing"


@pytest.mark.parametrize(
    "other", ['state={"a":1,"b":2}', "a b=1", "x[y]=1", "n=\xe9", "=x", "expires=1", ";", 'q="']
)
def test_other_programs_cookies_do_not_lock_out(other: str) -> None:
    """Every port of 127.0.0.1 shares them: a notebook or a development server leaves what it likes."""
    assert code("GET", "/events", cookie=f"{other}; gf=the-key") is None
    assert code("GET", "/events", cookie=f"gf=the-key; {other}") is None


def test_the_key_is_taken_from_the_page_s_address_only() -> None:
    """A key in the address of anything else would be in a log sooner or later."""
    assert code("GET", "/", "key=the-key", cookie=None) is None
    assert code("GET", "/", "key=wrong&key=the", cookie=None) == "key_missing"
    assert code("GET", "/events", "key=the-key", cookie=None) == "key_missing"


def test_a_change_needs_the_token_and_json() -> None:
    """What a form can send is not enough, with every cookie there is."""
    assert code(x_goldenfleet_token=None) == "token_missing"
    assert code(x_goldenfleet_token="the-key") == "token_missing"
    assert code(content_type="text/plain") == "not_json"
    assert code(content_type=None) == "not_json"


def test_secrets_are_new_each_time() -> None:
    """No two starts share a key, a token or a cookie's name."""
    one, other = Secrets(), Secrets()
    assert not {one.key, one.token, one.name} & {other.key, other.token, other.name}
    assert "SameSite=Strict" in one.cookie
    assert "HttpOnly" in one.cookie
