"""``backroom open``."""

from __future__ import annotations

import asyncio
import webbrowser

import click

from agent.cli.run import Session, command


@command(name="open")
@click.option("--link", "only_link", is_flag=True, help="Print the link and open nothing.")
@click.option("--assistant", is_flag=True, help="For somebody who may push and see, and change nothing else.")
async def open(session: Session, only_link: bool, assistant: bool) -> None:  # noqa: A001 - the command's name
    """Open this laptop's page in the browser: set up, push, back up, restore, approve, without commands.

    The agent serves the page, on this laptop alone; it is started where none runs, and goes on in the background. The
    link lets one browser in, once, within five minutes; give it to nobody.
    """
    from agent.operations.opening import page_link, start_agent

    started = await start_agent(session.home)
    link = await page_link(session.home, assistant=assistant)
    opened = not only_link and not session.output.as_json and await asyncio.to_thread(webbrowser.open, link)
    if started:
        session.output.note("The agent was started, and runs until this computer is switched off.")
    if not (opened or only_link):
        session.output.note("No browser could be opened. Open this link on this laptop, within five minutes:")
    session.output.say(f"The page is open in your browser. If you do not see it: {link}" if opened else link)
    session.output.result({"link": link, "started": started})
