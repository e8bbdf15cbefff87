"""Who somebody is on the page: an admin, who may do everything, or an assistant, who may push and see.

The role comes with the token that asked for the link (``state/api-token``, ``state/assistant-token``). What is not
listed here is the admin's alone, so that a new page is closed to assistants until somebody opens it to them.
"""

from __future__ import annotations

from aiohttp import hdrs, web

from agent.web.pages.errors import AdminOnly

ADMIN, ASSISTANT = "admin", "assistant"

# Method and path, below the page's own prefix.
FOR_ASSISTANTS = frozenset(
    {
        (hdrs.METH_GET, "/"),
        (hdrs.METH_GET, "/shop"),
        (hdrs.METH_GET, "/events"),
        (hdrs.METH_GET, "/push"),
        (hdrs.METH_POST, "/push"),
        (hdrs.METH_POST, "/push/look"),
        (hdrs.METH_POST, "/compare"),
        (hdrs.METH_GET, "/jobs/{id}"),
        (hdrs.METH_GET, "/jobs/{id}/events"),
        (hdrs.METH_POST, "/jobs/{id}/cancel"),
        (hdrs.METH_GET, "/backups"),
        (hdrs.METH_GET, "/backups/{id}"),
        (hdrs.METH_GET, "/requests"),
        (hdrs.METH_GET, "/activity"),
        (hdrs.METH_GET, "/transfers"),
        (hdrs.METH_GET, "/settings"),
        (hdrs.METH_POST, "/theme"),
        (hdrs.METH_POST, "/leave"),
    }
)
# Of the jobs, those that an assistant may start are those that one may see and stop.
JOBS_FOR_ASSISTANTS = frozenset({"done_push.html", "done_look.html", "done_compare.html"})


def check_role(request: web.Request, role: str, prefix: str) -> None:
    """Raise :class:`AdminOnly` where the route is not for this role. A path that is nothing is nobody's."""
    resource = request.match_info.route.resource
    if role == ADMIN or resource is None:
        return
    method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
    if (method, resource.canonical.removeprefix(prefix)) not in FOR_ASSISTANTS:
        raise AdminOnly


def check_job(role: str, template: str) -> None:
    """Raise :class:`AdminOnly` where the job with this template of its result is not for this role."""
    if role != ADMIN and template not in JOBS_FOR_ASSISTANTS:
        raise AdminOnly
