"""What the form of a restore asks for: which row wins, what becomes of numbers that meet, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from agent.database.merge import Conflicts
from agent.engine.choices import NO_CHOICES, Choices
from agent.web.pages.errors import Contradiction
from agent.web.pages.texts import text

MIRROR = "mirror"
POLICIES = ("newer", "local", "bundle", MIRROR)
MEETINGS = ("refuse", "keep_local", "renumber")


@dataclass(frozen=True, slots=True)
class Wishes:
    """The choices of ``backroom restore``, as the page asks for them."""

    policy: str
    conflicts: Conflicts
    choices: Choices
    trust_source: bool


async def wishes(request: web.Request) -> Wishes:
    """What was chosen. Raises :class:`Contradiction`."""
    form = await request.post()
    policy = given if (given := str(form.get("policy", ""))) in POLICIES else POLICIES[0]
    meet = str(form.get("meet", MEETINGS[0]))
    only = tuple(sorted({str(each) for each in form.getall("only", ())}))
    name = " ".join(str(form.get("as_new", "")).split())
    mirror = policy == MIRROR
    for wrong, why in (
        (mirror and only, "mirror.only"),
        (mirror and meet in MEETINGS[1:], "mirror.meet"),
        (name and (mirror or only), "new.whole"),
    ):
        if wrong:
            raise Contradiction(text(f"restore.not.{why}"))
    choices = Choices(
        mirror=mirror,
        keep_local=meet == "keep_local",
        renumber=meet == "renumber",
        only=only,
        as_new=name or None,
        with_history=bool(name) and "with_history" in form,
    )
    conflicts = Conflicts.BUNDLE if mirror else Conflicts(policy)
    return Wishes(policy, conflicts, choices if choices != Choices() else NO_CHOICES, "trust" in form)
