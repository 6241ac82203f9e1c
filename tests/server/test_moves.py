"""What becomes of requests that leave a node: kept by id, the last of many, for whoever drains it."""

from server.moves import MOST_KEPT, Moves


def test_of_many_the_last_are_kept() -> None:
    """The count goes on, and the ids of the last stay: an answer of /state is bounded."""
    moves = Moves()
    for number in range(MOST_KEPT + 3):
        moves.handed_over(f"r{number}")
        moves.moved(f"r{number}")
    shown = moves.snapshot()
    assert shown["handed_over"] == MOST_KEPT + 3
    assert shown["handed_over_ids"] == [f"r{number}" for number in range(3, MOST_KEPT + 3)]
    assert list(shown["moved"]) == shown["handed_over_ids"]  # type: ignore[call-overload]


def test_the_end_of_a_request_replaces_that_it_runs() -> None:
    """A request that was continued twice and has ended is told once, by its end."""
    moves = Moves()
    moves.moved("r1")
    moves.moved("r1")
    assert moves.snapshot()["moved"] == {"r1": "running"}
    moves.moved("r1", "ok")
    assert moves.snapshot()["moved"] == {"r1": "ok"}


def test_a_node_that_serves_again_begins_anew() -> None:
    """What one drain handed over does not show in the next."""
    moves = Moves()
    moves.handed_over("r1")
    moves.cut = 2
    moves.serves_again()
    assert moves.snapshot() == {"handed_over": 0, "cut": 0, "handed_over_ids": [], "moved": {}}
