"""Who is let in: bounds for a client and for all, who makes room, and who is slowed down."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from edgec.serve import admission
from edgec.serve.admission import SMALL_BYTES, Admission, NotAdmittedError, Pace, client_of
from edgec.serve.rounds import Rounds

SMALL = SMALL_BYTES


def test_a_client_has_its_bound_and_another_its_own() -> None:
    gate = Admission(most_bytes=100, per_client=2)
    with ExitStack() as inside:
        for _ in range(2):
            inside.enter_context(gate.admit("a", 1))
        with pytest.raises(NotAdmittedError, match="2 requests of this client") as caught, gate.admit("a", 1):
            pass
        assert caught.value.status == 429
        with gate.admit("b", 1):
            pass
    with gate.admit("a", 1), gate.admit("a", 1):
        pass


def test_more_bytes_than_may_be_under_way_are_refused() -> None:
    gate = Admission(most_bytes=10 * SMALL, per_client=9)
    with gate.admit("a", 5 * SMALL), gate.admit("b", 3 * SMALL):
        with (
            pytest.raises(NotAdmittedError, match="too many bytes are under way") as caught,
            gate.admit("c", 3 * SMALL),
        ):
            pass
        assert caught.value.status == 503
        with gate.admit("c", 2 * SMALL):
            pass


def test_a_client_takes_half_of_the_bytes_at_most() -> None:
    gate = Admission(most_bytes=10 * SMALL, per_client=9)
    with gate.admit("a", 3 * SMALL):
        with pytest.raises(NotAdmittedError, match="of this client") as caught, gate.admit("a", 3 * SMALL):
            pass
        assert caught.value.status == 429
        with gate.admit("b", 5 * SMALL), gate.admit("a", 2 * SMALL):
            pass


def test_small_bodies_are_let_in_beside_as_many_bytes_as_may_be() -> None:
    gate = Admission(most_bytes=10 * SMALL, per_client=9)
    with gate.admit("a", 5 * SMALL), gate.admit("b", 5 * SMALL), gate.admit("a", SMALL), gate.admit("c", SMALL):
        pass


def test_an_answer_counts_in_place_of_its_body() -> None:
    gate = Admission(most_bytes=10 * SMALL, per_client=9)
    with gate.admit("a", 1) as arrival:
        gate.hold(arrival, 9 * SMALL)
        with pytest.raises(NotAdmittedError), gate.admit("b", 2 * SMALL):
            pass
    with gate.admit("b", 5 * SMALL):
        pass


@pytest.mark.parametrize(("per_client", "most_bytes"), [(2, 1000 * SMALL), (9, 8 * SMALL), (9, 4 * SMALL)])
def test_the_body_that_has_not_moved_for_longest_makes_room(
    per_client: int, most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(admission.time, "monotonic", lambda: now[0])
    gate = Admission(most_bytes=most_bytes, per_client=per_client)
    other = "a" if most_bytes == 1000 * SMALL or most_bytes == 8 * SMALL else "b"
    dropped: list[str] = []
    with ExitStack() as inside:
        for name, client, moved in (("first", "a", 5.0), ("second", other, 1.0)):
            arrival = inside.enter_context(gate.admit(client, 2 * SMALL))
            arrival.drop, arrival.moved = lambda name=name: dropped.append(name), moved
        now[0] = 1.05
        with pytest.raises(NotAdmittedError), gate.admit(other, 2 * SMALL):
            pass  # both moved just now
        now[0] = 6.0
        with gate.admit(other, 2 * SMALL):
            assert dropped == ["second"]


def test_a_body_that_is_there_makes_no_room() -> None:
    gate = Admission(most_bytes=4 * SMALL, per_client=9)
    with gate.admit("a", 2 * SMALL) as arrival:
        arrival.moved, arrival.drop = -1e9, None
        with pytest.raises(NotAdmittedError), gate.admit("a", 2 * SMALL):
            pass


def test_a_flood_is_slowed_to_its_pace_and_nobody_else() -> None:
    pace = Pace(Rounds(), each_second=10, saved=5)
    assert [pace.wait_s("a", now=0.0) for _ in range(5)] == [0.0] * 5
    waits = [pace.wait_s("a", now=0.0) for _ in range(50)]
    assert waits[0] == pytest.approx(0.1)
    assert max(waits) == 1.0
    assert pace.wait_s("b", now=0.0) == 0.0
    assert pace.wait_s("a", now=60.0) == 0.0


def test_a_pace_is_remembered_of_so_many_clients_only() -> None:
    pace = Pace(Rounds())
    for i in range(10_000):
        pace.wait_s(str(i), now=0.0)
    assert len(pace._known) == 4096


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, ""),
    ],
)
def test_a_client_is_an_address_or_a_customers_network(address: str | None, client: str) -> None:
    assert client_of({"client": address and (address, 9)}) == client  # pyright: ignore[reportArgumentType]
