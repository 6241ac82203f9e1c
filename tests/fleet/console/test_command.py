"""`goldenfleet console`: where it listens, how it begins, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from fleet.cli import main
from fleet.console.errors import AddressRefused
from fleet.console.serve import bound, loopback, serve, url
from fleet.console_commands import _opened
from tests.fleet.console.fleets import fleet_of, served


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "192.168.1.1", "example.com", "", "127.0.0.1:80"]
)
def test_other_machines_cannot_reach_it(host: str) -> None:
    """Nothing but a loopback address is bound, and how to reach it from elsewhere is said."""
    with pytest.raises(AddressRefused) as caught:
        loopback(host)
    assert caught.value.hint
    result = CliRunner().invoke(main, ["console", "--host", host])
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.9", "::1"])
def test_loopback_is_bound(host: str) -> None:
    """By any of its addresses; the printed one leads there and holds the key."""
    with bound(host, 0) as listener:
        address = url(listener, "the-key")
        assert address.endswith(f":{listener.getsockname()[1]}/?key=the-key")


def test_a_port_that_somebody_has_is_refused() -> None:
    """Before AWS is asked for anything, with a way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(main, ["console", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 2
    assert "--port 0" in result.stderr


def test_no_stack_no_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is nothing to show it does not begin, by the codes that all on-call commands have."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    result = CliRunner().invoke(main, ["console", "--rehearsal", "--port", "0"])
    assert (result.exit_code, result.stdout) == (6, "")
    assert "no rehearsal is kept" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    """Also with pages open: their streams end, and which signal it was is known."""
    with served(fleet_of()) as site, bound("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(serve(site.console.app(), listener, site.feed.close))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        cookie = f"cookie: {site.known.name}={site.known.key}"
        writer.write(f"GET /events HTTP/1.1\r\nhost: localhost\r\n{cookie}\r\n\r\n".encode())
        async with asyncio.timeout(10):
            await reader.readuntil(b"event: fleet")
            os.kill(os.getpid(), number)
            assert await serving is number
            assert (await reader.read()).endswith(b"0\r\n\r\n")
        writer.close()


def test_the_key_is_on_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser is given a file, which only its owner may read, and which is gone afterwards."""
    seen, browser = tmp_path / "seen", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >{seen}\n')
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with _opened("http://127.0.0.1:1/?key=the-key&x=<"):
        asked = seen.read_text().strip()
        page = Path(asked.removeprefix("file://"))
        assert "the-key" not in asked
        assert "?key=the-key&amp;x=&lt;" in page.read_text()
        assert page.parent.stat().st_mode & 0o077 == 0
    assert not page.exists()
