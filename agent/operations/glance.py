"""The shop at a glance: which businesses are on which laptops, who is there now, and what was found the same, when.

A comparison is remembered with its time (``state/page.json``), as is when a laptop last answered. Nothing here changes
a database; businesses are compared only where somebody asks for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property

from agent.config import ConfigError
from agent.database.businesses import BusinessError
from agent.database.errors import DatabaseError
from agent.log import get_logger
from agent.operations.glance_memory import Checked, Memory
from agent.operations.glance_view import BusinessSeen, Cell, DeviceSeen, View
from agent.operations.look import businesses_here
from agent.operations.marking import Marker, Marks, since
from agent.operations.network import Network, network
from agent.operations.requests import WAITING, Requests
from agent.operations.standing import arrivals
from agent.operations.workspace import Workspace, utc_now
from agent.peers.errors import PeerError
from agent.tables.errors import TablesError
from certs.errors import TrustError
from certs.roster import Member
from protocol.requests import TableMark

log = get_logger(__name__)

LOOK_SECONDS = 2.0
ANSWER_SECONDS = 4.0
LIST_SECONDS = 10.0
BUSINESSES_SECONDS = 15.0
MARK_SECONDS = 4.0
IDLE_SECONDS = 30.0
"""How long after the last look the shop is not asked any more."""


@dataclass(frozen=True, slots=True)
class _Listed:
    id: str
    name: str
    demo: bool
    name_only: bool = False


class Glance:
    """Looks at the shop as long as somebody watches, and remembers."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._view: View | None = None
        self._moved = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._until = 0.0
        self._online: dict[str, str] = {}  # node -> why not; "" for one that answers
        self._there: dict[str, tuple[_Listed, ...]] = {}
        self._asked: dict[str, float] = {}
        self._own: tuple[_Listed, ...] = ()
        self._own_asked = float("-inf")
        self._problem = ("", "")
        self._marker = Marker(workspace)
        self._mark: TableMark | None = None
        self._marked = self._asked_marks = float("-inf")
        self._markless: set[str] = set()  # nodes whose Backroom tells no marks

    @cached_property
    def _memory(self) -> Memory:
        return Memory(self._workspace.home.state / "page.json")

    async def current(self) -> View:
        """The shop as it was last seen; looking goes on for a while after this."""
        self._until = asyncio.get_running_loop().time() + IDLE_SECONDS
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        if self._view is None:
            await self._look_at_home()
            await self._show()
        assert self._view is not None
        return self._view

    async def next(self, before: View, within: float) -> View | None:
        """The shop when it is no longer as ``before``; None where it stays so for ``within`` seconds."""
        now = await self.current()
        if now != before:
            return now
        async with self._moved:
            try:
                await asyncio.wait_for(self._moved.wait_for(lambda: self._view != before), within)
            except TimeoutError:
                return None
        return self._view

    async def note(self, business_id: str, node_id: str, checked: Checked) -> None:
        """Remember what a comparison found."""
        if checked.marks.there is not None:
            self._memory.marks[node_id] = checked.marks.there
        self._mark = checked.marks.here or self._mark
        await asyncio.to_thread(self._memory.check, business_id, node_id, checked)
        await self._show()

    async def changed_here(self, business_id: str | None) -> None:
        """A business here (None: all) has changed by a restore: what was found before does not hold any more."""
        await asyncio.to_thread(self._memory.forget, business_id)
        self._own_asked = float("-inf")
        await self._look_at_home()
        await self._show()

    async def look_again(self, node_id: str) -> None:
        """Ask that laptop for its businesses at the next look."""
        self._asked.pop(node_id, None)

    async def refresh(self) -> None:
        """Look at what is known here again, now: a request was answered, or this laptop is another device."""
        self._workspace = Workspace(self._workspace.home)
        await self._show()

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while await asyncio.to_thread(self._workspace.store.shop) is None:
                await self._round(None)
                if loop.time() > self._until:
                    return
            async with network(self._workspace) as net:
                while loop.time() <= self._until:
                    await self._round(net)
        except Exception:
            log.exception("the shop cannot be looked at")
        finally:
            self._memory.save()

    async def _round(self, net: Network | None) -> None:
        await self._look_at_home()
        if net is not None:
            await self._look_around(net)
        await self._show()
        await asyncio.sleep(LOOK_SECONDS)

    async def _look_at_home(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._memory.checked and now - self._marked >= MARK_SECONDS:
            self._marked = now
            try:
                self._mark = await self._marker.now()
            except (DatabaseError, TablesError, ConfigError) as error:
                log.debug("no mark", reason=str(error))
                self._mark = None
        if now - self._own_asked < BUSINESSES_SECONDS:
            return
        self._own_asked = now
        try:
            found, names = await businesses_here(Workspace(self._workspace.home))
        except (DatabaseError, TablesError, ConfigError, BusinessError) as error:
            self._problem = (str(error), error.hint)
            return
        self._problem = ("", "")
        self._own = tuple(_Listed(each.id, each.name, each.is_demo, each.id in names) for each in found)

    async def _look_around(self, net: Network) -> None:
        others = [each.node_id for each in await self._others()]
        answers = await net.directory.online(others, ANSWER_SECONDS)
        for node_id, answer in answers.items():
            if isinstance(answer, PeerError):
                self._online[node_id] = str(answer)
                self._asked.pop(node_id, None)
                self._markless.discard(node_id)
                continue
            self._online[node_id] = ""
            self._memory.saw(node_id, utc_now())
        await self._show()
        now = asyncio.get_running_loop().time()
        there = [each for each in others if self._online.get(each) == ""]
        due = [each for each in there if now - self._asked.get(each, float("-inf")) >= BUSINESSES_SECONDS]
        await asyncio.gather(*(self._ask(net, each) for each in due))
        # Of those that something is known of which a change over there would spoil.
        known = {node for _, node in self._memory.checked} - self._markless
        if now - self._asked_marks >= MARK_SECONDS:
            self._asked_marks = now
            await asyncio.gather(*(self._ask_mark(net, each) for each in there if each in known))

    async def _ask(self, net: Network, node_id: str) -> None:
        """Which businesses a laptop has; asked again at the next look where that does not work."""
        try:
            async with asyncio.timeout(LIST_SECONDS):
                listed = await net.client.businesses(node_id)
        except (PeerError, TimeoutError) as error:
            log.debug("no list of businesses", node=node_id, reason=str(error))
            return
        self._asked[node_id] = asyncio.get_running_loop().time()
        self._there[node_id] = tuple(_Listed(each.id, each.name, each.demo) for each in listed)

    async def _ask_mark(self, net: Network, node_id: str) -> None:
        """Whether rows may have changed over there. One that cannot tell is asked again when it was away."""
        try:
            async with asyncio.timeout(LIST_SECONDS):
                mark = await net.client.mark(node_id)
        except (PeerError, TimeoutError) as error:
            log.debug("no mark", node=node_id, reason=str(error))
            return
        if mark is None:
            self._markless.add(node_id)
        else:
            self._memory.marks[node_id] = mark

    async def _others(self) -> list[Member]:
        try:
            own = (await asyncio.to_thread(self._workspace.store.identity)).node_id
            roster = await asyncio.to_thread(self._workspace.store.roster)
        except TrustError as error:
            log.debug("no roster", reason=str(error))
            return []
        return sorted(
            (each for each in roster.members if each.active and each.node_id != own),
            key=lambda each: (each.name.casefold(), each.node_id),
        )

    async def _show(self) -> None:
        view = await self._seen()
        async with self._moved:
            self._view = view
            self._moved.notify_all()

    async def _seen(self) -> View:
        store = self._workspace.store
        identity = await asyncio.to_thread(store.identity)
        shop = await asyncio.to_thread(store.shop)
        member = shop.roster.member(identity.node_id) if shop else None
        role = member.role.value if member else ""
        name = self._workspace.config.device_name()
        this = DeviceSeen(identity.node_id, identity.short_id, name, role, True, True)
        devices = (this, *(self._device(each) for each in (await self._others() if shop else [])))
        known: dict[str, _Listed] = {}
        for listed in (*(self._there.get(each.node_id, ()) for each in devices), self._own):
            known |= {each.id: each for each in listed}
        here = {each.id for each in self._own if not each.name_only}
        names = {each.id for each in self._own if each.name_only}
        rows = tuple(
            BusinessSeen(
                each.id,
                each.name,
                each.demo,
                each.id in here,
                tuple(self._cell(each.id, each.id in here, each.id in names, device) for device in devices),
            )
            for each in sorted(known.values(), key=lambda each: (each.demo, each.name.casefold(), each.id))
        )
        requests = await asyncio.to_thread(Requests(self._workspace.home).all)
        waiting = sum(each.state == WAITING for each in requests)
        arriving = await asyncio.to_thread(arrivals, self._workspace.home)
        return View(shop.shop_name if shop else None, devices, rows, waiting, arriving, *self._problem)

    def _device(self, member: Member) -> DeviceSeen:
        why_not = self._online.get(member.node_id)
        online = None if why_not is None else not why_not
        # Of one that is there the time of its last answer says nothing, and would move the view all the time.
        seen = None if online else self._memory.seen.get(member.node_id)
        return DeviceSeen(
            member.node_id, member.short_id, member.name, member.role.value, False, online, seen, why_not or ""
        )

    def _cell(self, business_id: str, here: bool, name_only: bool, device: DeviceSeen) -> Cell:
        if device.this:
            return Cell(device, "here" if here else "name-only" if name_only else "missing")
        listed = self._there.get(device.node_id)
        checked = self._memory.checked.get((business_id, device.node_id))
        if listed is not None and business_id not in {each.id for each in listed}:
            return Cell(device, "absent")
        if checked is not None and here:
            now = Marks(self._mark, self._memory.marks.get(device.node_id))
            return Cell(device, checked.state, checked, since(checked.marks, now))
        return Cell(device, "unknown" if listed is None else "unchecked" if here else "there")
