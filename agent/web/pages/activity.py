"""Activity: what changed this laptop, and what went over the network; searched, filtered and paged."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from agent.archive.records import APPLIED, DONE, FAILED, INTERRUPTED, REFUSED, RUNNING, STARTED
from agent.web.pages.parts import fresh
from agent.web.pages.render import render

PER_PAGE = 30
ENDS = ("well", "wrong")
# Plans change nothing: they are no activity.
_RESTORES = {"": (APPLIED, FAILED, REFUSED, INTERRUPTED, RUNNING), "well": (APPLIED,)}
_TRANSFERS = {"well": (DONE, STARTED)}
_WRONG = (FAILED, REFUSED, INTERRUPTED)


async def activity(request: web.Request) -> web.Response:
    """Both lists, each with pages of its own; those restores that can be taken back have a button. Only the lists where
    htmx searches."""
    wanted = request.query.get("q", "").strip()
    ended = given if (given := request.query.get("ended", "")) in ENDS else ""
    pages = {name: _page(request.query.get(name, "")) for name in ("restores", "transfers")}
    words = wanted.split()[:10]
    async with fresh(request).history() as history:
        restores = await history.restores(
            state=_RESTORES.get(ended, _WRONG), words=words, limit=PER_PAGE + 1, offset=pages["restores"] * PER_PAGE
        )
        transfers = await history.transfers(
            state=(_TRANSFERS.get(ended, _WRONG) if ended else None),
            words=words,
            limit=PER_PAGE + 1,
            offset=pages["transfers"] * PER_PAGE,
        )
    context: dict[str, Any] = {"q": wanted, "ended": ended, "ends": ENDS, "pages": pages}
    context |= {"restores": restores[:PER_PAGE], "transfers": transfers[:PER_PAGE]}
    context |= {"more": {"restores": len(restores) > PER_PAGE, "transfers": len(transfers) > PER_PAGE}}
    return render("activity_lists.html" if "HX-Request" in request.headers else "activity.html", request, context)


def _page(given: str) -> int:
    return int(given[:6]) if given[:6].isdecimal() else 0


ROUTES = [web.get("/activity", activity)]
