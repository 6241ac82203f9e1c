"""The page in a headless Chromium: what a person sees, and what a keyboard can do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from fleet.console.guard import Secrets
from tests.fleet.console.browser import DEADLINE_S, Browser, Tab, program
from tests.fleet.console.fleets import Fleet, event, fleet_of, node, served, tier

CHROMIUM = program()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing: see tests/packages.txt")

# WCAG 2.2, "relative luminance" and "contrast ratio"; a colour that lets the ground through is laid over it.
CONTRASTS = """(() => {
  const parse = (c) => { const [r, g, b, a = 1] = c.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const add = (element, color, words) => {
    const below = ground(element), [a, b] = [light(over(parse(color), below)), light(below)];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), words]);
  };
  while (walker.nextNode()) {
    const words = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!words || element.closest("script, style, title") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    add(element, element instanceof SVGElement ? style.fill : style.color, `${element.className} ${words}`);
  }
  for (const input of document.querySelectorAll("input")) {
    if (!input.checkVisibility()) continue;
    add(input, getComputedStyle(input, "::placeholder").color, "placeholder");
  }
  return found;
})()"""

# Everything that is wider than the window, or that something cuts off without a way to scroll there.
OVERFLOWS = """(() => {
  const wide = document.documentElement.scrollWidth > innerWidth ? ["the page"] : [];
  for (const e of document.body.querySelectorAll("*")) {
    if (e.closest("svg, .unseen, .skip") || !e.checkVisibility()) continue;
    const box = e.getBoundingClientRect(), cuts = getComputedStyle(e).overflowX !== "visible";
    if (box.width && (box.right > innerWidth + 0.5 || box.left < -0.5)) wide.push(e.outerHTML.slice(0, 80));
    if (cuts && e.scrollWidth > e.clientWidth + 1) wide.push(`cut: ${e.outerHTML.slice(0, 80)}`);
  }
  return wide;
})()"""


TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM is not None
    browser = Browser(CHROMIUM, tmp_path_factory.mktemp("chromium"))
    try:
        yield browser
    finally:
        browser.close()


def busy_fleet() -> Fleet:
    """A node in every state, long words, and a history."""
    fleet, now = fleet_of(3, 9), time.time()
    states = (
        {"phase": "accepting", "deadline": now + 97, "reason": "spot-interruption", "binding": True},
        {
            "phase": "handing_over",
            "lifecycle_state": "Terminating:Wait",
            "deadline": now - 4,
            "reason": "x" * 200,
        },
        {"phase": "refusing", "deadline": now + 45, "reason": "<img src=x onerror=alert(1)>"},
        {"phase": None, "lifecycle_state": "Detached", "in_flight": None},
        {"target_state": "unhealthy"},
        {"lifecycle_state": "Pending:Wait", "target_state": "initial", "phase": None, "in_flight": None},
        {"lifecycle_state": "Standby", "target_state": None, "stale": True},
    )
    for one, fields in zip(fleet.nodes[4:], states, strict=False):
        fleet.change(one.instance_id, **fields)
    fleet.tiers[1] = tier("model", desired=9, in_service=5, pending=1, channel_image_id="ami-2")
    for one, ago in ((fleet.nodes[4], 23), (fleet.nodes[5], 124), (node(900), 250)):
        fleet.events += [
            event("notice.seen", one, now - ago, kind="spot-interruption", deadline=now - ago + 120),
            event("drain.requested", one, now - ago + 0.4, reason="spot-interruption"),
            event("target.deregistered", one, now - ago + 0.5),
            event("notice.failed", one, now - ago + 0.6, error="Throttling: Rate exceeded"),
        ]
    fleet.events.append(event("hook.completed", node(900), now - 150, reason="empty"))
    return fleet


def until(condition: Callable[[], object]) -> None:
    """Each look is a round trip to the browser, which also brings what it tells by itself."""
    limit = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < limit, "did not happen in time"


def shown(tab: Tab, nodes: int) -> None:
    tab.until(f"document.querySelectorAll('.node').length === {nodes}")


def focused(tab: Tab) -> str:
    return str(tab.js("document.activeElement.getAttribute('aria-label') || document.activeElement.id"))


def tab_to(tab: Tab, name: str) -> None:
    """By Tab alone, as a keyboard gets there."""
    for _ in range(60):
        if focused(tab) == name:
            return
        tab.press("Tab")
    pytest.fail(f"Tab never comes to {name}")


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_overflows(browser: Browser, width: int) -> None:
    """At a phone's width as on a desk: long words, a dialog, every state, and no error in the page."""
    fleet = busy_fleet()
    with served(fleet, allow_drain=True) as site, browser.tab(site.url, width=width, height=740) as tab:
        shown(tab, 12)
        tab.until("document.querySelectorAll('#timeline rect').length === 3")
        assert tab.js(OVERFLOWS) == []
        tab.js("document.querySelector('.node.serving button').click()")
        assert tab.js(OVERFLOWS) == []
        fleet.down = True
        tab.until("document.querySelectorAll('.banner').length === 2")
        assert tab.js(OVERFLOWS) == []
        assert tab.problems() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_read(browser: Browser, dark: bool) -> None:
    """Every word has a contrast of 4.5 or more in both schemes: WCAG 2.2 AA, whatever its size."""
    fleet = busy_fleet()
    fleet.lost = 3
    with served(fleet, allow_drain=True) as site, browser.tab(site.url, dark=dark) as tab:
        shown(tab, 12)
        tab.until("document.querySelectorAll('#timeline rect').length === 3")
        contrasts = tab.js(CONTRASTS)
        fleet.down = True
        tab.until("document.querySelectorAll('.banner').length === 2")
        tab.js("document.querySelector('.node.serving button').click()")
        contrasts += tab.js(CONTRASTS)
    assert len(contrasts) > 150
    assert [found for found in contrasts if found[0] < 4.5] == []


def test_no_state_is_told_by_colour_alone(browser: Browser) -> None:
    """Each state has a sign and words of its own."""
    with served(busy_fleet()) as site, browser.tab(site.url) as tab:
        shown(tab, 12)
        told = tab.js(
            "[...document.querySelectorAll('.node .chip')].map((c) => [c.className, c.textContent])"
        )
    signs = {(name, words.split()[0]) for name, words in told}
    assert len(signs) == len({name for name, _ in signs}) == len({sign for _, sign in signs}) == 5
    assert all(len(words.split()) > 1 for _, words in told)


def test_other_people_s_words_are_text(browser: Browser) -> None:
    """A reason that is markup is shown as it was written, and runs nothing."""
    with served(busy_fleet()) as site, browser.tab(site.url) as tab:
        shown(tab, 12)
        assert tab.js("document.querySelectorAll('img').length") == 0
        assert "<img src=x onerror=alert(1)>" in tab.js("document.body.innerText")
        assert tab.problems() == []


def test_a_console_that_only_shows_has_no_buttons(browser: Browser) -> None:
    """And says that it is read only."""
    with served(fleet_of()) as site, browser.tab(site.url) as tab:
        shown(tab, 9)
        assert tab.js("document.querySelectorAll('.node button').length") == 0
        assert tab.js("document.getElementById('mode').textContent") == "read only"


def test_the_key_does_not_stay_in_the_address(browser: Browser) -> None:
    """It is in a cookie after the first load: a reload works, and a screenshot tells nothing."""
    with served(fleet_of()) as site, browser.tab(site.url) as tab:
        shown(tab, 9)
        assert tab.js("location.href") == f"{site.origin}/"
        assert tab.js("document.cookie") == ""
        tab.call("Page.reload")
        shown(tab, 9)


def test_a_notice_appears_and_counts_down(browser: Browser) -> None:
    """Within two seconds of the log, with its countdown, in the title, and said to a screen reader."""
    fleet = fleet_of()
    with served(fleet, interval_s=2.0) as site, browser.tab(site.url) as tab:
        shown(tab, 9)
        assert tab.js("document.querySelector('#leaving .nothing').checkVisibility()")
        leaver, now = fleet.nodes[4], time.time()
        fleet.change(leaver.instance_id, phase="accepting", deadline=now + 120, reason="spot-interruption")
        fleet.events.append(event("notice.seen", leaver, now, kind="spot-interruption", deadline=now + 120))
        assert tab.until(f"document.querySelector('.leaver .id')?.textContent === '{leaver.instance_id}'") < 2
        tab.until("document.querySelector('.event.notice')")
        tab.until(f"document.getElementById('said').textContent.includes('{leaver.instance_id}')")
        tab.until("document.title.startsWith('▼ 1 leaving')")
        before = tab.js("document.querySelector('.countdown').textContent")
        tab.until(f"document.querySelector('.countdown').textContent !== '{before}'")


def test_aws_down_is_never_an_empty_fleet(browser: Browser) -> None:
    """A banner with the reason and the age of what is seen; the nodes stay; then it goes by itself."""
    fleet = fleet_of()
    with served(fleet) as site, browser.tab(site.url) as tab:
        shown(tab, 9)
        fleet.down = True
        tab.until("document.querySelector('#banners').innerText.includes('What you see is of')")
        tab.until("/ for [1-9][0-9]* s/.test(document.querySelector('#banners').innerText)")
        assert "Check the network" in tab.js("document.querySelector('#banners').innerText")
        assert tab.js("document.title").startswith("! stale")
        shown(tab, 9)
        fleet.down = False
        tab.until("!document.querySelector('.banner')")


def test_nothing_known_yet_is_said(browser: Browser) -> None:
    """A console that starts while AWS is down shows no zeros and no tiers."""
    fleet = fleet_of()
    fleet.down = True
    with served(fleet) as site, browser.tab(site.url) as tab:
        tab.until("document.querySelector('#banners').innerText.includes('Nothing is known')")
        assert tab.js("[...document.querySelectorAll('.value')].every((v) => v.textContent === '-')")
        assert tab.js("document.getElementById('unloaded').checkVisibility()")


def test_the_page_finds_its_console_again(browser: Browser) -> None:
    """While no console is there the page says so and keeps what it shows; it goes on with the next."""
    fleet, known = fleet_of(), Secrets()
    with served(fleet, known=known) as site, browser.tab(site.url) as tab:
        shown(tab, 9)
        site.stop()
        tab.until("document.querySelector('#banners').innerText.includes('No word from the console')")
        shown(tab, 9)
        with served(fleet, known=known, port=site.port):
            tab.until("!document.querySelector('.banner')")


def test_eight_tabs_are_as_good_as_one(browser: Browser) -> None:
    """A browser opens six connections to a host: one tab listens for all, drains get through from any, and
    when it is closed another listens."""
    fleet = fleet_of()
    with served(fleet, allow_drain=True) as site, browser.tabs() as open_tab:
        first, *others = tabs = [open_tab(site.url) for _ in range(8)]
        for tab in tabs:
            shown(tab, 9)
        assert site.feed.viewers == 1
        others[-1].js("document.querySelector('.node.serving button').click()")
        others[-1].write("bad disk")
        others[-1].press("Enter")
        until(lambda: browser.call("Target.getTargets") and fleet.asked)
        first.call("Page.close")
        fleet.nodes = fleet.nodes[:5]
        for tab in others:
            shown(tab, 5)
        assert others[0].problems() == []


def test_a_drain_by_keyboard_alone(browser: Browser) -> None:
    """Tab to the button, Enter, a reason, Enter: it is asked for as written, and focus comes back."""
    fleet = fleet_of()
    fleet.slow, wanted = True, fleet.nodes[5].instance_id
    with served(fleet, allow_drain=True) as site, browser.tab(site.url) as tab:
        shown(tab, 9)
        tab_to(tab, f"Drain {wanted}")
        assert tab.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.press("Enter")
        tab.until("document.getElementById('ask').open")
        assert focused(tab) == "ask-reason"
        tab.press("Enter")
        assert fleet.asked == [], "no reason, no drain"
        tab.press("Escape")
        tab.until("!document.getElementById('ask').open")
        assert focused(tab) == f"Drain {wanted}"
        tab.press(" ")
        tab.until("document.getElementById('ask').open")
        tab.write("bad disk")
        tab.press("Enter")
        tab.until("!document.getElementById('ask').open")
        assert fleet.asked == [("drain", wanted, "bad disk", 120.0)]
        tab.until(f"document.querySelector('#node-{wanted} .chip').textContent.includes('drain asked for')")
        tab.js(TWO_FRAMES)
        assert focused(tab) == f"Drain {wanted}"
        tab.press("Enter")
        assert not tab.js("document.getElementById('ask').open"), "it was asked for already"
        fleet.begin(wanted, "bad disk", 120.0)
        tab.until(f"document.querySelector('#node-{wanted}.leaving')")
        assert focused(tab) == f"Undrain {wanted}"
        tab.press("Enter")
        tab.until("document.getElementById('ask').open")
        tab_to(tab, "ask-do")
        tab.press("Enter")
        tab.until(f"document.querySelector('#node-{wanted}.serving')")
        assert fleet.asked[1:] == [("undrain", wanted)]
        assert tab.problems() == []


def test_a_refused_drain_is_told_where_it_was_asked(browser: Browser) -> None:
    """The dialog stays open with AWS's words; the last node of a tier comes with a warning."""
    fleet = fleet_of(gateways=1)
    with served(fleet, allow_drain=True) as site, browser.tab(site.url, width=360, height=740) as tab:
        shown(tab, 7)
        tab.js("document.querySelector('.node button').click()")
        assert "clients will notice" in tab.js("document.getElementById('ask-warning').innerText")
        fleet.down = True
        tab.write("bad disk")
        tab.press("Enter")
        tab.until("document.getElementById('ask-failure').innerText.includes('SendMessage failed')")
        assert tab.js("document.getElementById('ask').open")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_page_gets_nothing(browser: Browser, method: str) -> None:
    """Of another port of this machine, in the same browser, with the cookie there: asked, and refused."""
    fleet, other = fleet_of(), fleet_of(gateways=1, models=0)
    with served(fleet, allow_drain=True) as site, served(other) as elsewhere, browser.tab(site.url) as tab:
        shown(tab, 9)
        tab.call("Page.setBypassCSP", enabled=True)
        tab.go(elsewhere.url)
        shown(tab, 1)
        tab.call("Network.enable")
        path, options = ("/events", {}) if method == "GET" else ("/drain", {"body": "{}", "method": "POST"})
        asked = json.dumps({"mode": "no-cors", "credentials": "include", **options})
        asking = f"fetch('{site.origin}{path}', {asked})"
        assert tab.js(f"{asking}.then(() => 'taken', () => 'refused')") == "refused"
        until(lambda: tab.js("true") and 403 in tab.statuses())
    assert fleet.asked == []


def test_a_large_fleet_can_be_searched(browser: Browser) -> None:
    """Three hundred nodes: the filter leaves what was meant, by id, zone and state."""
    fleet = Fleet(fleet_of().tiers, [node(i) for i in range(300)])
    with served(fleet, interval_s=1.0) as site, browser.tab(site.url) as tab:
        shown(tab, 300)
        tab.js("document.getElementById('filter').focus()")
        tab.write(f"{fleet.nodes[7].instance_id} us-east-1b serving")
        tab.until("document.querySelectorAll('.node:not([hidden])').length === 1")
        tab.write(" no such")
        tab.until("!document.getElementById('none-match').hidden")
