"""How every command runs: options that all share, errors as sentences with exit codes, Ctrl+C without a traceback."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from agent.cli.output import Output
from agent.home import Home

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
F = TypeVar("F", bound=Callable[..., Any])


class Refused(Exception):
    """A command that does not go on, with its reason. Exit code 1."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


class Session:
    """What a command works with: its output and the data folder."""

    def __init__(self, home: str | None, *, as_json: bool) -> None:
        self.output = Output(as_json=as_json)
        self.home = Home.locate(home)


def command(*, name: str | None = None) -> Callable[[Callable[..., Coroutine[Any, Any, int | None]]], click.Command]:
    """Make an async function a command with ``--home`` and ``--json``; it is given a :class:`Session` first."""

    def decorate(body: Callable[..., Coroutine[Any, Any, int | None]]) -> click.Command:
        @click.option("--home", metavar="DIR", help="The data folder (else BACKROOM_HOME, else the user's own).")
        @click.option("--json", "as_json", is_flag=True, help="Answer with one JSON value on standard output.")
        @click.pass_context
        @functools.wraps(body)
        def run(context: click.Context, /, home: str | None, as_json: bool, **options: Any) -> None:
            above = context.find_root().params
            session = Session(home or above.get("home"), as_json=as_json or bool(above.get("as_json")))
            context.exit(run_command(session, lambda: body(session, **options)))

        return click.command(name)(run)

    return decorate


def run_command(session: Session, work: Callable[[], Awaitable[int | None]]) -> int:
    """Run the command to its end and turn what it raises into words and an exit code."""

    async def main() -> int:
        return await work() or DONE

    try:
        with _logging(session.home):
            return asyncio.run(main())
    except KeyboardInterrupt:
        session.output.error("interrupted", "Stopped.", "")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except click.ClickException:
        raise
    except Exception as error:
        return report(session, error)


@contextmanager
def _logging(home: Home) -> Iterator[None]:
    """What the layers below log goes to the data folder's log, not between the words of a command."""
    if not home.config.exists():
        yield
        return
    from agent.log import setup

    close = setup(home, console_level=None)
    try:
        yield
    finally:
        close()


def report(session: Session, error: Exception) -> int:
    """Words for an error: its own where it has them; else a sentence, with the traceback in the log."""
    code, hint = getattr(error, "code", None), getattr(error, "hint", None)
    if isinstance(code, str) and isinstance(hint, str):
        session.output.error(code, str(error), hint)
        return FAILED
    import traceback

    place = session.home.logs / "backroom-errors.log"
    try:
        session.home.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        with place.open("a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
        where = f"The details are in {place}."
    except OSError:
        traceback.print_exception(error)
        where = "The details are above."
    session.output.error("unexpected", f"Something unexpected happened: {type(error).__name__}: {error}", where)
    return FAILED
