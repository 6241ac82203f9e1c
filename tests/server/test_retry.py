"""The decision to try again, and the budget that bounds it."""

from random import Random

import pytest

from server.retry import WINDOW_S, Action, Budget, Failure, Situation, backoff_s, decide, needs_budget

GONE = [Failure.CONNECT, Failure.LOST, Failure.CUT, Failure.DRAINING, Failure.SILENT]
SICK = [Failure.ERROR, Failure.OVERLOADED, Failure.TIMEOUT, Failure.MALFORMED]


def situation(
    failure: Failure, attempts: int = 1, *, sent: bool = False, left: float = 9.0, total: int = 1
) -> Situation:
    return Situation(failure, attempts, total, 3, 12, sent, left)


@pytest.mark.parametrize("failure", list(Failure))
@pytest.mark.parametrize(("sent", "action"), [(False, Action.RETRY), (True, Action.RESUME)])
def test_a_first_failure_is_followed_by_another_attempt(failure: Failure, sent: bool, action: Action) -> None:
    """Before the first byte any failure is retried; after it, resumed."""
    assert decide(situation(failure, sent=sent), budget_allows=True) is action


@pytest.mark.parametrize("failure", list(Failure))
@pytest.mark.parametrize(
    "bound",
    [{"attempts": 3}, {"left": 0.0}, {"total": 12}],
    ids=["attempts", "deadline", "attempts in all"],
)
def test_no_attempt_is_made_beyond_a_bound(failure: Failure, bound: dict[str, int]) -> None:
    """Attempts, time and the sum of attempts each end it alone."""
    assert decide(situation(failure, **bound), budget_allows=True) is Action.GIVE_UP  # type: ignore[arg-type]


@pytest.mark.parametrize(("failures", "needed"), [(GONE, False), (SICK, True)])
@pytest.mark.parametrize("attempts", [1, 2])
def test_only_work_that_a_lost_node_leaves_needs_no_budget(
    failures: list[Failure], needed: bool, attempts: int
) -> None:
    """An attempt after a node is gone adds no load; every other one does."""
    for failure in failures:
        assert needs_budget(situation(failure, attempts)) is needed
        assert (decide(situation(failure, attempts), budget_allows=False) is Action.GIVE_UP) is needed


def test_what_a_busy_node_sends_away_needs_no_budget_while_another_is_well() -> None:
    """It is done once, elsewhere; with nobody well it is more load, and is charged."""
    for elsewhere in (True, False):
        sent_away = Situation(Failure.OVERLOADED, 1, 1, 3, 12, False, 9.0, elsewhere=elsewhere)
        assert needs_budget(sent_away) is not elsewhere
        assert (decide(sent_away, budget_allows=False) is Action.RETRY) is elsewhere


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def spent(budget: Budget) -> int:
    """How many attempts the budget allows from here."""
    count = 0
    while budget.allows():
        budget.spend()
        count += 1
    return count


@pytest.mark.parametrize(("requests", "allowed"), [(0, 3), (5, 3), (15, 3), (20, 4), (100, 20)])
def test_the_budget_is_a_share_with_a_minimum(requests: int, allowed: int) -> None:
    """20% of the requests, and never fewer than 3."""
    budget = Budget(Clock(), 0.2, 3)
    for _ in range(requests):
        budget.begin()
        budget.end()
    assert spent(budget) == allowed


def test_a_long_healthy_run_is_forgotten() -> None:
    """What the budget remembers does not grow while nothing fails."""
    clock = Clock()
    budget = Budget(clock, 0.2, 3)
    for _ in range(1000):
        clock.now += WINDOW_S / 10
        budget.begin()
        budget.end()
    assert budget.remembered == 10


def test_the_budget_forgets_what_is_past() -> None:
    """After the window the requests count no more, and the retries weigh no more."""
    clock = Clock()
    budget = Budget(clock, 0.2, 3)
    for _ in range(50):
        budget.begin()
        budget.end()
    assert spent(budget) == 10
    clock.now += WINDOW_S
    assert spent(budget) == 3


def test_long_requests_count_while_they_run() -> None:
    """Streams that began before the window are work that may have to be moved."""
    clock = Clock()
    budget = Budget(clock, 0.2, 3)
    for _ in range(50):
        budget.begin()
    clock.now += WINDOW_S * 2
    assert spent(budget) == 10


def test_backoff_is_fully_jittered_and_capped() -> None:
    """Waits spread from nothing to a bound that doubles, and never exceed two seconds."""
    rng = Random(3)
    waits = [[backoff_s(attempts, rng) for _ in range(200)] for attempts in (1, 3, 30)]
    assert [max(group) <= bound for group, bound in zip(waits, (0.1, 0.4, 2.0), strict=True)] == [True] * 3
    assert all(min(group) < max(group) / 10 for group in waits)
