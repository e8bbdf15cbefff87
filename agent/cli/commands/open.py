"""``backroom open``."""

from __future__ import annotations

import asyncio
import webbrowser

import click

from agent.cli.run import Session, command


@command(name="open")
@click.option("--link", "only_link", is_flag=True, help="Print the link and open nothing.")
async def open(session: Session, only_link: bool) -> None:  # noqa: A001 - the command's name
    """Open this laptop's page in the browser: push, back up, restore, approve, without commands.

    The agent (`backroom run`) serves the page, on this laptop alone. The link lets one browser in, once, within five
    minutes; give it to nobody.
    """
    from agent.operations.opening import page_link

    link = await page_link(session.home)
    opened = not only_link and not session.output.as_json and await asyncio.to_thread(webbrowser.open, link)
    session.output.say(f"The page is open in your browser. If you do not see it: {link}" if opened else link)
    session.output.result({"link": link})
