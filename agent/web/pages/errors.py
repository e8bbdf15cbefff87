"""What can be wrong with what somebody does on the page."""

from __future__ import annotations

from agent.web.api.errors import ApiError
from agent.web.pages.texts import text


class PageError(ApiError):
    """Root of the page's errors."""

    code = "page"
    hint = ""


class NoSession(PageError):
    code = "no-session"
    status = 401

    def __init__(self) -> None:
        super().__init__(text("session.none"), text("session.none.hint"))


class BadTicket(PageError):
    code = "bad-ticket"
    status = 403

    def __init__(self) -> None:
        super().__init__(text("session.ticket"), text("session.none.hint"))


class NoCsrf(PageError):
    code = "no-csrf"
    status = 403

    def __init__(self) -> None:
        super().__init__(text("session.csrf"), text("session.csrf.hint"))


class AdminOnly(PageError):
    """An assistant asked for what only an admin may do."""

    code = "admin-only"
    status = 403

    def __init__(self) -> None:
        super().__init__(text("session.admin"), text("session.admin.hint"))


class Missing(PageError):
    code = "missing"

    def __init__(self, name: str) -> None:
        super().__init__(text("form.missing", name=name), text("form.missing.hint"))


class BadField(PageError):
    code = "bad-field"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(text("form.bad", name=name, why=why), text("form.missing.hint"))


class NotTyped(PageError):
    """The name that had to be typed is another one."""

    code = "not-typed"

    def __init__(self, wanted: str) -> None:
        super().__init__(text("form.typed", name=wanted), text("form.typed.hint"))


class NeedsPassphrase(PageError):
    """The file that was brought is sealed."""

    code = "passphrase-needed"

    def __init__(self) -> None:
        super().__init__(text("import.sealed"), text("import.sealed.hint"))


class UploadBroken(PageError):
    """The file did not come to its end."""

    code = "upload-broken"

    def __init__(self) -> None:
        super().__init__(text("import.broken"), text("import.broken.hint"))


class Contradiction(PageError):
    """Choices of a restore that do not go together."""

    code = "contradiction"

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, text("restore.not.hint"))


class NotVouched(PageError):
    """A backup that nobody signed shall be restored, and nobody said that they know where it comes from."""

    code = "untrusted-source"

    def __init__(self) -> None:
        super().__init__(text("restore.untrusted"), text("hint.untrusted-source"))


class PlanGone(PageError):
    code = "plan-gone"
    status = 409

    def __init__(self) -> None:
        super().__init__(text("plan.gone"), text("plan.gone.hint"))
