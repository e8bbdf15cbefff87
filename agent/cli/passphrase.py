"""Asking for a passphrase: by prompt, from a file, or from the environment; never on the command line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.cli.run import Refused, Session

VARIABLE = "BACKROOM_PASSPHRASE"
F = TypeVar("F", bound=Callable[..., Any])


def passphrase_option(body: F) -> F:
    """The option ``--passphrase-file``."""
    option = click.option(
        "--passphrase-file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"The passphrase is the first line of FILE (else {VARIABLE}, else you are asked).",
    )
    decorated: F = option(body)
    return decorated


async def passphrase(session: Session, file: Path | None, *, new: bool = False) -> str:
    """The passphrase; a ``new`` one is asked for twice."""
    if file is not None:
        lines = (await asyncio.to_thread(file.read_text, encoding="utf-8")).splitlines()
        return lines[0].strip() if lines else ""
    if given := os.environ.get(VARIABLE):
        return given
    if not session.output.interactive:
        raise Refused("passphrase-needed", "A passphrase is needed.", f"Give --passphrase-file FILE, or {VARIABLE}.")
    words = "Passphrase (12 letters or more; without it the file cannot be opened)" if new else "Passphrase"
    return str(
        await asyncio.to_thread(click.prompt, words, hide_input=True, confirmation_prompt=new, err=True, default="")
    )


def leaving_options(body: F) -> F:
    """The options of what writes a file that leaves the laptop: ``--plain``, ``--passphrase`` and its file."""
    plain = click.option("--plain", is_flag=True, help="Do not seal it: whoever gets hold of it can read it.")
    by_passphrase = click.option(
        "--passphrase", "by_passphrase", is_flag=True, help="Seal it with a passphrase instead of the shop's keys."
    )
    decorated: F = plain(by_passphrase(passphrase_option(body)))
    return decorated


async def new_passphrase(session: Session, plain: bool, by_passphrase: bool, file: Path | None) -> str | None:
    """The passphrase to seal with, as :func:`leaving_options` asked; None where there is to be none."""
    if plain and (by_passphrase or file is not None):
        raise click.UsageError("Say --plain or --passphrase, not both.")
    return await passphrase(session, file, new=True) if by_passphrase or file is not None else None


def asker(session: Session, file: Path | None) -> Callable[[str], Awaitable[str]]:
    """Asks for the passphrase that opens a sealed file, in given words; from the file or the environment first."""

    async def ask(words: str) -> str:
        if file is not None or os.environ.get(VARIABLE) or not session.output.interactive:
            return await passphrase(session, file)
        return str(await asyncio.to_thread(click.prompt, words, hide_input=True, err=True, default=""))

    return ask


def identity_option(body: F) -> F:
    """The option ``--identity``."""
    option = click.option(
        "--identity",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="For a sealed file: an age identity file, or recovery.age of the recovery kit.",
    )
    decorated: F = option(body)
    return decorated
