"""``backroom demo``: a shop of two laptops on this machine, from nothing to a pushed business, each step proved."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from agent.cli.output import count
from agent.cli.run import FAILED, Refused, Session, command

if TYPE_CHECKING:
    from agent.demo.proofs import DeviceState
    from agent.demo.shop import DemoLaptop

BUSINESS = "Restaurant ABC"
_READY_SECONDS = 30.0
_COMMAND_SECONDS = 120.0


class Story:
    """Runs real commands in processes of their own and shows them as a person would type them."""

    def __init__(self, session: Session) -> None:
        self.output = session.output
        self.proved: list[str] = []
        self.failed: list[str] = []
        self._steps = 0

    def step(self, title: str) -> None:
        self._steps += 1
        self.output.say(f"\n{self._steps}. {title}")

    def prove(self, holds: bool, what: str) -> None:
        """One thing that the demo promises."""
        (self.proved if holds else self.failed).append(what)
        self.output.say(f"   {'proved' if holds else 'NOT TRUE'}: {what}")

    async def run(self, laptop: DemoLaptop, *arguments: str, fails: bool = False, quiet: bool = False) -> str:
        """Run a command on a laptop, show it with its words, and return them. ``fails``: it is meant to be refused."""
        self.output.say(f"   {laptop.name} $ backroom {shlex.join(arguments)}")
        code, out, err = await _backroom(laptop, *arguments)
        shown = err if fails else out
        if not quiet:
            for line in shown.splitlines()[:12]:
                self.output.say(f"     {line}")
        if (code != 0) is not fails:
            raise Refused("demo-failed", f"`backroom {shlex.join(arguments)}` ended with {code}: {err.strip() or out}")
        return shown

    async def ask(self, laptop: DemoLaptop, *arguments: str) -> Any:
        """The JSON answer of a command that is not shown."""
        code, out, err = await _backroom(laptop, *arguments, "--json")
        if code != 0:
            raise Refused("demo-failed", f"`backroom {shlex.join(arguments)}` ended with {code}: {out}{err}")
        return json.loads(out.splitlines()[0])


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BACKROOM_")}


async def _backroom(laptop: DemoLaptop, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "agent.cli.main", "--home", str(laptop.home), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
    )
    try:
        async with asyncio.timeout(_COMMAND_SECONDS):
            out, err = await process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


@asynccontextmanager
async def _agent(laptop: DemoLaptop) -> AsyncIterator[None]:
    """The laptop's agent as a process of its own, as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "agent.cli.main", "--home", str(laptop.home), "run"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@command(name="demo")
@click.option("--keep", is_flag=True, help="Leave both laptops running until Ctrl+C.")
@click.option("--scale", type=click.IntRange(10, 100_000), default=400, show_default=True, help="Orders per business.")
async def demo(session: Session, keep: bool, scale: int) -> int | None:
    """Try Backroom: a shop of two laptops on this machine, each with a PostgreSQL of its own.

    They find each other by mDNS, join by code, push a business, and prove that both hold the same, that no other
    business and no device state went along, and that a laptop's device backup is refused by another. Everything is
    in a temporary folder and gone afterwards. Takes less than a minute.
    """
    from agent.demo.shop import create_demo_laptop

    started = monotonic()
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="backroom-demo-"))
    story = Story(session)
    try:
        async with AsyncExitStack() as stack:
            story.step("Two laptops, each with the platform's database on a PostgreSQL of its own.")
            first, second = await asyncio.gather(
                create_demo_laptop(folder / "first", "first", scale=scale),
                create_demo_laptop(folder / "second", "second", scale=scale),
            )
            stack.push_async_callback(first.stop)
            stack.push_async_callback(second.stop)
            await _tell(story, first, second, stack)
            took = monotonic() - started
            session.output.say(
                f"\n{count(len(story.proved), 'thing')} proved, {len(story.failed)} not, in {took:.0f} seconds."
            )
            session.output.result(
                {"proved": story.proved, "failed": story.failed, "seconds": round(took, 1), "folder": str(folder)}
            )
            if keep and not story.failed:
                session.output.say(f"Both agents are running. Their data folders: {first.home} and {second.home}")
                session.output.say(f"Try: backroom --home {shlex.quote(str(first.home))} devices")
                for laptop in (first, second):
                    opened = await story.ask(laptop, "open")
                    session.output.say(f"The page of {laptop.name}: {opened['link']}")
                session.output.say("Stop with Ctrl+C: everything is removed then.")
                await asyncio.Event().wait()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, True)
    return FAILED if story.failed else None


async def _tell(story: Story, first: DemoLaptop, second: DemoLaptop, stack: AsyncExitStack) -> None:
    from agent.demo.proofs import device_state

    await story.run(first, "init", "--database", first.dsn, "--name", first.name, "--port", "0", quiet=True)
    await story.run(second, "init", "--database", second.dsn, "--name", second.name, "--port", "0", quiet=True)
    await story.run(first, "businesses")
    before = await device_state(second.dsn)

    story.step("A shop: founded on the first laptop, joined by the second with a code. Agents find each other by mDNS.")
    await story.run(first, "shop", "create", "Corner Shops")
    for laptop in (first, second):
        await stack.enter_async_context(_agent(laptop))
    invited = await _retrying(story, first)
    story.output.say(f"   {first.name} $ backroom invite\n     Code: {invited['code']}")
    await story.run(second, "join", str(invited["code"]))
    online = await _until_online(story, first)
    await story.run(first, "devices")
    story.prove(online, "the laptops found each other on the network, and each proved who it is")

    story.step(f"One command puts {BUSINESS} onto the second laptop.")
    await story.run(first, "push", BUSINESS, second.name)
    await story.run(first, "compare", "--business", BUSINESS, "--with", second.name)
    compared = await story.ask(first, "compare", "--business", BUSINESS, "--with", second.name)
    story.prove(compared["identical"], f"{BUSINESS} is identical on both laptops, {compared['rows']:,} rows")
    await _prove_business(story, first, second)

    story.step("Device state stays where it belongs.")
    after = await device_state(second.dsn)
    _prove_devices(story, before, after)
    made = await story.ask(first, "backup", "--full-device")
    story.output.say(f"   {first.name} $ backroom backup --full-device")
    refusal = await story.run(second, "restore", made["file"], "--yes", fails=True)
    story.prove(
        "This is a full device backup from a different device" in refusal,
        "a device backup of the first laptop is refused by the second",
    )
    story.prove(await device_state(second.dsn) == after, "the refused restore changed nothing")


async def _prove_business(story: Story, first: DemoLaptop, second: DemoLaptop) -> None:
    from agent.demo.proofs import rows_of_business, same_rows

    businesses = await story.ask(first, "businesses")
    for business in businesses:
        if business["name"] == BUSINESS:
            total, different = await same_rows(first.dsn, second.dsn, business["id"])
            story.prove(not different, f"read with plain SQL, all {total:,} rows that carry its id are equal")
            continue
        here = sum((await rows_of_business(first.dsn, business["id"])).values())
        there = await rows_of_business(second.dsn, business["id"])
        # Categories and suppliers are shared by all: their businessId only says who made them.
        leaked = {
            name: number for name, number in there.items() if name not in {"business_categories", "business_suppliers"}
        }
        story.prove(
            sum(leaked.values()) <= 3,
            f"of the {here:,} rows of {business['name']}, {sum(leaked.values())} came along"
            + (f" as stubs ({', '.join(sorted(leaked))})" if leaked else ""),
        )


def _prove_devices(story: Story, before: DeviceState, after: DeviceState) -> None:
    lost, added = before.lost(after), before.added(after)
    tables = len(before.rows)
    story.prove(not lost, f"all rows of the second laptop's {tables} device tables are as they were")
    made = f"; made fresh here: {', '.join(f'{n} in {t}' for t, n in added.items())}" if added else ""
    story.prove(set(added) <= {"sync_nodes"}, f"no device row of the first laptop came along{made}")


async def _retrying(story: Story, laptop: DemoLaptop) -> dict[str, Any]:
    """An invitation by the running agent, which may still be starting."""
    deadline = monotonic() + _READY_SECONDS
    while True:
        status = await story.ask(laptop, "status")
        if status["agent_running"]:
            answer: dict[str, Any] = await story.ask(laptop, "invite")
            return answer
        if monotonic() > deadline:
            raise Refused("demo-failed", f"The agent of {laptop.name} did not start.")
        await asyncio.sleep(0.2)


async def _until_online(story: Story, laptop: DemoLaptop) -> bool:
    deadline = monotonic() + _READY_SECONDS
    while monotonic() < deadline:
        if all(device["online"] for device in await story.ask(laptop, "devices")):
            return True
    return False
