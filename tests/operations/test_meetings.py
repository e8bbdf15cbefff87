"""Who begins a meeting, and when: once in a round for each pair."""

from __future__ import annotations

from pathlib import Path

from agent.config import change
from agent.operations.attending import Attending
from agent.operations.meetings import PATIENCE_SECONDS, SHORTEST_SECONDS, SOON_SECONDS, Meetings
from agent.operations.workspace import Workspace
from agent.peers.server import PeerServer
from protocol.requests import Whereabouts
from tests.peers.laptops import make_shop

SMALL, LARGE = "node-a", "node-b"


def test_the_smaller_id_begins_and_the_other_only_when_it_was_not_met() -> None:
    small, large = Meetings(SMALL, 100.0), Meetings(LARGE, 100.0)
    assert small.due(LARGE, 1, 2, proven=True) == 100.0 + SOON_SECONDS
    assert large.due(SMALL, 1, 2, proven=True) == 100.0 + PATIENCE_SECONDS
    for each, other in ((small, LARGE), (large, SMALL)):
        each.met(other, 200.0, 1)
    begins = small.due(LARGE, 1, 2, proven=True)
    assert begins == 200.0 + SHORTEST_SECONDS
    assert large.due(SMALL, 1, 2, proven=True) > begins + PATIENCE_SECONDS


def test_in_a_large_shop_the_rounds_are_longer() -> None:
    meetings = Meetings(SMALL, 0.0)
    meetings.met(LARGE, 10.0, 1)
    assert meetings.due(LARGE, 1, 30, proven=True) == 10.0 + 300.0


def test_who_was_never_reached_where_it_is_announced_is_dialled_by_both() -> None:
    small, large = Meetings(SMALL, 0.0), Meetings(LARGE, 0.0)
    small.seen(LARGE, 50.0)
    large.seen(SMALL, 50.0)
    assert small.due(LARGE, 1, 2, proven=False) == large.due(SMALL, 1, 2, proven=False) == 50.0 + SOON_SECONDS


def test_who_has_met_this_laptop_but_was_never_dialled_by_it_is_dialled_once() -> None:
    large = Meetings(LARGE, 0.0)
    large.seen(SMALL, 50.0)
    large.met(SMALL, 50.1, 1)
    assert large.due(SMALL, 1, 2, proven=False) == 50.0 + SOON_SECONDS
    large.dialled(SMALL, 51.0, 1)
    assert large.due(SMALL, 1, 2, proven=False) == 51.0 + SHORTEST_SECONDS
    assert large.due(SMALL, 1, 2, proven=True) > 51.0 + SHORTEST_SECONDS


def test_a_newer_roster_is_passed_on_at_once_by_whoever_has_it() -> None:
    large = Meetings(LARGE, 0.0)
    large.met(SMALL, 10.0, 3)
    assert large.due(SMALL, 3, 2, proven=True) > 10.0
    assert large.due(SMALL, 4, 2, proven=True) == 10.0
    large.met(SMALL, 20.0, 4)
    assert large.due(SMALL, 4, 2, proven=True) > 20.0


def test_who_appears_anew_is_met_anew() -> None:
    large = Meetings(LARGE, 0.0)
    large.met(SMALL, 10.0, 1)
    large.seen(SMALL, 20.0)
    assert large.due(SMALL, 1, 2, proven=True) == 20.0 + PATIENCE_SECONDS


async def test_one_meeting_serves_both_and_asks_nothing_of_the_engine(tmp_path: Path) -> None:
    begins, other = make_shop(tmp_path, ["laptop-office", "laptop-sales"])
    change(other.home, name="laptop-sales", database_url="postgresql://shop@127.0.0.1:1/none")
    workspace = Workspace(other.home)
    async with workspace.history() as history:
        met: list[str] = []
        attending = Attending(workspace, history)
        attending.met = met.append
        async with PeerServer(other.store, attending, host="127.0.0.1") as server:
            await begins.client(server.port).meet(other.node_id, Whereabouts({}))
        assert met == [begins.node_id]
        assert attending._reception is None
        await attending.close()
