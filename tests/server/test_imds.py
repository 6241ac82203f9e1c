"""The metadata watcher against a real fake IMDS: tokens, notices, junk, silence."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from server.imds import Identity, ImdsClient, ImdsUnavailable, ImdsWatcher, Notice

SPOT = "spot/instance-action"
REBALANCE = "events/recommendations/rebalance"
LIFECYCLE = "autoscaling/target-lifecycle-state"
MAINTENANCE = "events/maintenance/scheduled"

# 2017-09-18T08:22:00Z
AT = 1505722920.0


@dataclass
class FakeImds:
    """IMDSv2 as AWS serves it, with faults on request."""

    bodies: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    ttls: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    faults: list[Callable[[], web.StreamResponse]] = field(default_factory=list)
    token_faults: list[Callable[[], web.StreamResponse]] = field(default_factory=list)
    silent: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    valid: bool = True
    endpoint: str = ""

    async def token(self, request: web.Request) -> web.StreamResponse:
        if self.token_faults:
            return self.token_faults.pop(0)()
        self.ttls.append(request.headers["X-aws-ec2-metadata-token-ttl-seconds"])
        self.tokens += 1
        self.valid = True
        return web.Response(text=f"token-{self.tokens}")

    async def data(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.match_info["path"])
        if self.silent:
            await self.over.wait()
        if self.faults:
            return self.faults.pop(0)()
        given = request.headers.get("X-aws-ec2-metadata-token")
        if not self.valid or given != f"token-{self.tokens}":
            return web.Response(status=401)
        body = self.bodies.get(request.match_info["path"])
        return web.Response(status=404) if body is None else web.Response(text=body)


class Log:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    @property
    def names(self) -> list[str]:
        return [event for event, _ in self.events]


@pytest.fixture
async def imds() -> AsyncIterator[FakeImds]:
    fake = FakeImds()
    app = web.Application()
    app.router.add_put("/latest/api/token", fake.token)
    app.router.add_get("/latest/meta-data/{path:.+}", fake.data)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    fake.over.set()
    await runner.cleanup()


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Watching:
    client: ImdsClient
    watcher: ImdsWatcher
    notices: list[Notice]
    log: Log
    monotonic: Clock
    unix: Clock


@pytest.fixture
async def watching(imds: FakeImds) -> AsyncIterator[Watching]:
    async with aiohttp.ClientSession() as session:
        monotonic, unix, log, notices = Clock(), Clock(AT - 100), Log(), list[Notice]()
        client = ImdsClient(session, imds.endpoint, clock=monotonic, timeout_s=0.2)
        watcher = ImdsWatcher(client, notices.append, log=log, clock=unix, poll_s=2, lead_s=120)
        yield Watching(client, watcher, notices, log, monotonic, unix)


async def test_404_everywhere_is_no_notice(imds, watching):
    """The usual answer means that nothing is planned, and is no fault of IMDS."""
    await watching.watcher.look()
    assert watching.notices == []
    assert watching.log.names == []
    assert sorted(imds.requests) == sorted([SPOT, REBALANCE, LIFECYCLE, MAINTENANCE])


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
async def test_a_spot_notice_names_its_deadline(imds, watching, action):
    """The instance action's time is the deadline, in unix seconds."""
    imds.bodies[SPOT] = f'{{"action":"{action}","time":"2017-09-18T08:22:00Z"}}'
    await watching.watcher.look()
    assert watching.notices == [Notice("spot", AT, "imds")]
    assert watching.notices[0].drains
    assert ("notice.seen", {"kind": "spot", "deadline": AT, "source": "imds"}) in watching.log.events


async def test_a_notice_is_told_once(imds, watching):
    """The same notice at every poll is one notice; another deadline is another."""
    imds.bodies[SPOT] = '{"action":"terminate","time":"2017-09-18T08:22:00Z"}'
    for _ in range(3):
        await watching.watcher.look()
    imds.bodies[SPOT] = '{"action":"terminate","time":"2017-09-18T08:21:00Z"}'
    await watching.watcher.look()
    assert watching.notices == [Notice("spot", AT, "imds"), Notice("spot", AT - 60, "imds")]


async def test_a_rebalance_recommendation_drains_nothing(imds, watching):
    """It is a forecast: told, and told apart."""
    imds.bodies[REBALANCE] = '{"noticeTime":"2020-10-27T08:22:00Z"}'
    await watching.watcher.look()
    assert [(notice.kind, notice.drains) for notice in watching.notices] == [("rebalance", False)]


@pytest.mark.parametrize(
    ("state", "kinds"),
    [("InService", []), ("Terminated", ["scale-in"]), ("Detached", []), ("Warmed:Terminated", []), ("", [])],
)
async def test_only_a_terminated_target_state_is_a_scale_in(imds, watching, state, kinds):
    """The group's other states leave the node serving."""
    imds.bodies[LIFECYCLE] = state
    await watching.watcher.look()
    assert [notice.kind for notice in watching.notices] == kinds


async def test_maintenance_is_a_notice_when_it_is_near(imds, watching):
    """An event weeks ahead waits; within the lead it drains by its NotBefore."""
    imds.bodies[MAINTENANCE] = (
        '[{"NotBefore":"18 Sep 2017 08:22:00 GMT","Code":"system-reboot","Description":"","EventId":"a",'
        '"NotAfter":"18 Sep 2017 09:22:00 GMT","State":"active"}]'
    )
    watching.unix.now = AT - 86_400
    await watching.watcher.look()
    assert watching.notices == []
    watching.unix.now = AT - 119
    await watching.watcher.look()
    assert watching.notices == [Notice("maintenance", AT, "imds")]


async def test_maintenance_that_is_over_is_no_notice(imds, watching):
    """Completed and cancelled events stay listed for a while."""
    imds.bodies[MAINTENANCE] = (
        '[{"NotBefore":"18 Sep 2017 08:22:00 GMT","State":"completed"},'
        '{"NotBefore":"18 Sep 2017 08:22:00 GMT","State":"canceled"}]'
    )
    await watching.watcher.look()
    assert watching.notices == []


@pytest.mark.parametrize("path", [SPOT, REBALANCE, MAINTENANCE])
@pytest.mark.parametrize(
    "junk",
    [
        "",
        "junk",
        "null",
        "[]x",
        "{}",
        "7",
        '{"time":"soon","noticeTime":5}',
        '[{"State":"active"}]',
        "\ufffd" * 99,
    ],
)
async def test_junk_is_reported_and_survived(imds, watching, path, junk):
    """A body that is none of IMDS's is logged once, and the next good notice is seen."""
    imds.bodies[path] = junk
    await watching.watcher.look()
    await watching.watcher.look()
    assert watching.notices == []
    assert watching.log.names == ["imds.unavailable"]
    del imds.bodies[path]
    imds.bodies[SPOT] = '{"action":"terminate","time":"2017-09-18T08:22:00Z"}'
    await watching.watcher.look()
    assert [notice.kind for notice in watching.notices] == ["spot"]
    assert "imds.available" in watching.log.names


async def test_junk_on_one_path_does_not_hide_another(imds, watching):
    """Each path is judged by itself."""
    imds.bodies[MAINTENANCE] = "junk"
    imds.bodies[SPOT] = '{"action":"terminate","time":"2017-09-18T08:22:00Z"}'
    await watching.watcher.look()
    assert [notice.kind for notice in watching.notices] == ["spot"]


async def test_one_token_serves_until_just_before_it_expires(imds, watching):
    """A token of 3600 s is renewed 15 s early, and not before."""
    for now in (0, 1800, 3584):
        watching.monotonic.now = now
        await watching.watcher.look()
    assert (imds.tokens, imds.ttls) == (1, ["3600"])
    watching.monotonic.now = 3585
    await watching.watcher.look()
    assert imds.tokens == 2


async def test_a_refused_token_is_replaced_at_once(imds, watching):
    """401 means a new token and another try within the same look."""
    imds.bodies[SPOT] = '{"action":"terminate","time":"2017-09-18T08:22:00Z"}'
    await watching.client.get("instance-id")
    imds.valid = False
    await watching.watcher.look()
    assert [notice.kind for notice in watching.notices] == ["spot"]
    assert watching.log.names == ["notice.seen"]


@pytest.mark.parametrize("status", [500, 503, 302, 403])
async def test_a_fault_now_and_then_is_tried_again(imds, watching, status):
    """Two faults in a row cost nothing: there are three tries."""
    imds.bodies["instance-id"] = "i-1"
    imds.faults = [lambda: web.Response(status=status, headers={"Location": "/x"})] * 2
    assert await watching.client.get("instance-id") == "i-1"


async def test_three_faults_are_unavailable(imds, watching):
    """The error names the endpoint and the path."""
    imds.faults = [lambda: web.Response(status=500)] * 3
    with pytest.raises(ImdsUnavailable, match="instance-id in 3 tries"):
        await watching.client.get("instance-id")


@pytest.mark.parametrize("token", ["", "\x01", "a b\tc", "é"])
async def test_a_token_that_is_none_is_not_used(imds, watching, token):
    """What the token endpoint says becomes a header: anything but plain text is refused."""
    imds.bodies["instance-id"] = "i-1"
    imds.token_faults = [lambda: web.Response(text=token)] * 3
    with pytest.raises(ImdsUnavailable):
        await watching.client.get("instance-id")
    assert imds.requests == []


async def test_silence_is_bounded(imds, watching):
    """An IMDS that never answers holds a look for three timeouts, not for ever; it is logged once."""
    imds.silent = True
    async with asyncio.timeout(5):
        await watching.watcher.look()
        await watching.watcher.look()
    assert watching.log.names == ["imds.unavailable"]


async def test_imds_being_away_is_survived(watching):
    """Nobody listens at all: the watcher goes on."""
    async with aiohttp.ClientSession() as session:
        client = ImdsClient(session, "http://127.0.0.1:1", clock=Clock(), timeout_s=0.2)
        with pytest.raises(ImdsUnavailable):
            await client.get("instance-id")


async def test_it_looks_again_after_each_interval(imds):
    """The poll interval is the pause between two looks."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    async with aiohttp.ClientSession() as session:
        client = ImdsClient(session, imds.endpoint, clock=Clock())
        watcher = ImdsWatcher(
            client, lambda _: None, log=Log(), clock=Clock(), sleep=sleep, poll_s=2, lead_s=120
        )
        with pytest.raises(asyncio.CancelledError):
            await watcher.run()
    assert pauses == [2, 2, 2]
    assert imds.requests.count(SPOT) == 3


async def test_an_instance_knows_who_it_is(imds, watching):
    """Instance id and address come from IMDS."""
    imds.bodies |= {"instance-id": "i-0abc", "local-ipv4": "127.0.16.4"}
    assert await watching.client.identity() == Identity("i-0abc", "127.0.16.4")


async def test_an_instance_without_a_name_is_unavailable(watching):
    """A metadata service that names no instance is none."""
    with pytest.raises(ImdsUnavailable, match="names no instance"):
        await watching.client.identity()
