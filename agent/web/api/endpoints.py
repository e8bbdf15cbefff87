"""All endpoints as data: what the application serves and what the OpenAPI document says come from this one list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agent.engine.progress import Progress
from agent.operations.workspace import Workspace
from agent.web.api import models, work
from agent.web.api.models import Request

See = Callable[[Workspace, Any], Awaitable[Any]]
Do = Callable[[Workspace, Any, Progress], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``see`` answers at once (GET, the query is the request); ``do`` is a job (POST, the JSON body is)."""

    path: str
    summary: str
    request: type[Request]
    see: See | None = None
    do: Do | None = None

    @property
    def method(self) -> str:
        return "GET" if self.see is not None else "POST"


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("/api/status", "How this laptop stands", models.Nothing, see=work.see_status),
    Endpoint("/api/devices", "The laptops of the shop", models.Nothing, see=work.see_devices),
    Endpoint("/api/businesses", "The businesses in the database", models.Nothing, see=work.see_businesses),
    Endpoint("/api/tables", "Every table and how it travels", models.Nothing, see=work.see_tables),
    Endpoint("/api/history", "Backups, transfers and restores", models.HistoryAsked, see=work.see_history),
    Endpoint("/api/places", "Where backups are delivered to", models.Nothing, see=work.see_places),
    Endpoint("/api/deliveries", "The deliveries that wait", models.Nothing, see=work.see_queue),
    Endpoint("/api/backups", "Make a backup", models.BackupAsked, do=work.back_up),
    Endpoint("/api/restores/plan", "What a restore would do", models.PlanAsked, do=work.plan),
    Endpoint("/api/restores", "Restore exactly what a plan said", models.RestoreAsked, do=work.apply),
    Endpoint("/api/pushes", "Push a business to another laptop", models.PushAsked, do=work.push),
    Endpoint("/api/pulls", "Pull a backup from another laptop", models.PullAsked, do=work.pull),
    Endpoint("/api/deliveries", "Deliver a bundle", models.DeliveryAsked, do=work.deliver),
)
