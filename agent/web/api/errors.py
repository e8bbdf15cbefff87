"""Errors of requests, and how every error becomes an answer."""

from __future__ import annotations


class ApiError(Exception):
    """Root of this package's errors; ``status`` is the HTTP status."""

    code = "api"
    hint = "The API is described in /api/openapi.json."
    status = 400

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class BadRequest(ApiError):
    code = "bad-request"


class NoToken(ApiError):
    code = "no-token"
    status = 401
    hint = "Send `Authorization: Bearer TOKEN` with the content of state/api-token in the data folder."


class WrongPlace(ApiError):
    """The request names another host, or comes from another site's page."""

    code = "wrong-place"
    status = 403
    hint = "Ask http://127.0.0.1 from this laptop itself."


class NotFound(ApiError):
    code = "not-found"
    status = 404


class PlanChanged(ApiError):
    code = "plan-changed"
    status = 409
    hint = "Look at the plan again, then apply that one."


class PortsTaken(ApiError):
    code = "port-taken"
    status = 500
    hint = "Choose another web_port in config.toml (0: any free one)."


_STATUS = {
    "no-such-bundle": 404,
    "no-such-record": 404,
    "no-such-delivery": 404,
    "unknown-business": 404,
    "no-such-business": 404,
    "not-set-up": 409,
}


def described(error: BaseException) -> tuple[int, dict[str, str]] | None:
    """Status and body for an error that has words of its own; None for an unexpected one."""
    code, hint = getattr(error, "code", None), getattr(error, "hint", None)
    if not isinstance(code, str) or not isinstance(hint, str):
        return None
    status = error.status if isinstance(error, ApiError) else _STATUS.get(code, 409)
    return status, {"code": code, "message": str(error), "hint": hint}


UNEXPECTED = {"code": "unexpected", "message": "Something unexpected happened.", "hint": "See the agent's log."}
