"""Logging by structlog: short lines for people on standard error, JSON lines in ``logs/``, no secrets in either."""

from __future__ import annotations

import atexit
import logging
import logging.handlers
import os
import queue
import re
import sys
import threading
from collections.abc import Callable, MutableMapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from agent.config import mask
from agent.home import Home
from agent.locks import FileLock

if TYPE_CHECKING:
    import structlog

MAX_BYTES = 5_000_000
KEEP_FILES = 5

RICH = threading.Lock()
"""To be held while rich is imported: see :func:`_import_structlog`."""

_SECRET = re.compile(r"(?i)(^|_)(password|passphrase|secret|token|code|private_key|key|authorization|cookie)$")
_EMAIL = re.compile(r"[\w.+-]+@(?=[\w-]+(?:\.[\w-]+)+)")


def setup(home: Home | None = None, *, level: str = "info", console_level: str | None = "info") -> Callable[[], None]:
    """Set logging up for this process; returns a function that flushes and closes it (also run at exit).

    Events from ``level`` on go to ``home/logs/backroom.jsonl`` (rotated at 5 MB, five files kept; written in a thread
    of its own), events from ``console_level`` on to standard error (``None``: none). A second call starts afresh.
    """
    handlers: list[logging.Handler] = []
    listener: logging.handlers.QueueListener | None = None
    if console_level is not None:
        console = logging.StreamHandler(sys.stderr)
        console.setLevel(console_level.upper())
        console.setFormatter(_Formatter(as_json=False))
        handlers.append(console)
    if home is not None:
        home.ensure()
        file = SharedFileHandler(home.logs / "backroom.jsonl")
        file.setFormatter(_Formatter(as_json=True))
        waiting: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        handlers.append(_Queue(waiting))
        handlers[-1].setLevel(level.upper())
        listener = logging.handlers.QueueListener(waiting, file)
        listener.start()
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if getattr(handler, "backroom", False)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.backroom = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    root.setLevel(min((handler.level for handler in handlers), default=logging.WARNING))
    for chatty in ("asyncio", "alembic", "sqlalchemy", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # zeroconf warns, with a traceback, of every interface that cannot be reached; discovery says what matters itself.
    logging.getLogger("zeroconf").setLevel(logging.ERROR)

    def close() -> None:
        atexit.unregister(close)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
        if listener is not None:
            listener.stop()
            for target in listener.handlers:
                target.close()

    atexit.register(close)
    return close


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module. Events are short lower-case words, the facts are keyword values."""
    return cast("structlog.stdlib.BoundLogger", _Later(name))


class _Later:
    """A logger that imports structlog with its first event: most commands log nothing and would wait for it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        if "structlog" not in sys.modules:
            level = logging.getLevelName(method.upper())
            if isinstance(level, int) and not logging.getLogger(self._name).isEnabledFor(level):
                return _nothing
            _import_structlog()
        import structlog

        if not structlog.is_configured():
            structlog.configure(
                processors=[
                    structlog.stdlib.filter_by_level,
                    *_before(),
                    structlog.processors.format_exc_info,
                    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
                ],
                logger_factory=structlog.stdlib.LoggerFactory(),
                wrapper_class=structlog.stdlib.BoundLogger,
                cache_logger_on_first_use=False,
            )
        return getattr(structlog.get_logger(self._name), method)


def _nothing(*_: object, **__: object) -> None:
    """An event of a level that nobody listens to."""


def _import_structlog() -> None:
    """structlog without rich, which it would import to make tracebacks colourful (5 MB, 50 ms): ours are plain."""
    with RICH:
        hidden = sys.modules.setdefault("rich", cast("ModuleType", None)) is None
        try:
            import structlog  # noqa: F401
        finally:
            if hidden:
                del sys.modules["rich"]


class _Formatter(logging.Formatter):
    """structlog's formatter, made for the first record."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line: JSON, or text for people."""
        return self._formatter.format(record)

    @cached_property
    def _formatter(self) -> structlog.stdlib.ProcessorFormatter:
        if "structlog" not in sys.modules:
            _import_structlog()
        import structlog

        colors = sys.stderr.isatty() and sys.platform != "win32"
        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_before(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact,
                structlog.processors.JSONRenderer() if self._as_json else structlog.dev.ConsoleRenderer(colors=colors),
            ],
        )


def _before() -> list[structlog.typing.Processor]:
    """What every event is given, ours or a library's."""
    import structlog

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out what a log must not hold: values of secret names, passwords in URLs, e-mail addresses' local parts."""
    for name, value in event.items():
        if name.startswith("_"):
            continue
        event[name] = "***" if _SECRET.search(name) and value is not None else _clean(value)
    return event


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _EMAIL.sub("***@", mask(value))
    if isinstance(value, dict):
        return {key: "***" if _SECRET.search(str(key)) else _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    return value if isinstance(value, int | float | None) else _EMAIL.sub("***@", mask(str(value)))


class _Queue(logging.handlers.QueueHandler):
    """Hands records on as they are: structlog's event dictionary must reach the formatter in the other thread."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


class SharedFileHandler(logging.handlers.RotatingFileHandler):
    """A rotated log file for several processes: one rotates under a lock, the others follow to the new file."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, keep: int = KEEP_FILES) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=keep, encoding="utf-8")
        self.path = path
        self._lock_file = FileLock(path.with_name(".rotate.lock"))

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 - logging's name
        """Reopen the file where another process has rotated it; then as usual, by size."""
        if self.stream is not None and self._moved():
            self.stream.close()
            self.stream = self._open()
        return bool(super().shouldRollover(record))

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        """Rotate, unless another process is at it (then keep appending: the next record asks again)."""
        if not self._lock_file.try_acquire():
            return
        try:
            if not self._moved():
                super().doRollover()
        except PermissionError:  # Windows: another process has the file open; it is tried again with the next record
            if self.stream is None or self.stream.closed:
                self.stream = self._open()
        finally:
            self._lock_file.release()

    def _moved(self) -> bool:
        if self.stream is None:
            return True
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self.stream.fileno()))
        except (OSError, ValueError):
            return True
