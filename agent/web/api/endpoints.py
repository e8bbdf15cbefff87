"""All endpoints as data: what the application serves and what the OpenAPI document says come from this one list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agent.engine.progress import Progress
from agent.operations.workspace import Workspace
from agent.web.api import care, management, models, work
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
    Endpoint("/api/prune", "What pruning would do, and why", models.Nothing, see=care.see_prune),
    Endpoint("/api/prune", "Move old backups to the trash, by rule", models.Nothing, do=care.prune_backups),
    Endpoint("/api/verify", "Prove that backups hold", models.VerifyAsked, do=care.verify_backups),
    Endpoint("/api/drills", "Restore backups for real into scratch tables", models.DrillAsked, do=care.hold_drills),
    Endpoint("/api/notes", "Note something about a backup, pin it", models.NoteAsked, do=care.note_backup),
    Endpoint("/api/rebuild", "Make the history anew from the files", models.Nothing, do=care.rebuild_history),
    Endpoint("/api/exports", "Write a backup file of the platform", models.ExportAsked, do=care.export),
    Endpoint("/api/imports", "Take in a backup file of the platform", models.ImportAsked, do=care.take_in),
    Endpoint("/api/undos/plan", "What taking a restore back would do", models.UndoPlanAsked, do=care.plan_undo),
    Endpoint("/api/undos", "Take a restore back, exactly as planned", models.UndoAsked, do=care.undo),
    Endpoint("/api/comparisons", "Compare a business with a laptop or bundle", models.CompareAsked, do=care.compare),
    Endpoint("/api/schedule", "The schedule, and its last runs", models.Nothing, see=management.see_schedule),
    Endpoint("/api/schedule", "Add to the schedule", models.ScheduleAsked, do=management.add_to_schedule),
    Endpoint("/api/schedule/removals", "Take out of it", models.Named, do=management.remove_from_schedule),
    Endpoint("/api/schedule/switches", "Switch on or off", models.SwitchAsked, do=management.switch_in_schedule),
    Endpoint("/api/places/tests", "Try a place: write, read back, remove", models.Named, do=management.try_place),
    Endpoint("/api/places/removals", "Forget a place of delivery", models.Named, do=management.remove_place),
    Endpoint("/api/transfers", "Pushes and pulls that are not over", models.Nothing, see=management.see_transfers),
    Endpoint("/api/cancellations", "Cancel a transfer for good", models.CancelAsked, do=management.cancel),
    Endpoint("/api/requests", "What waits for a yes here, or did", models.Nothing, see=management.see_requests),
    Endpoint("/api/answers", "Approve or decline a request", models.AnswerAsked, do=management.answer),
    Endpoint("/api/diagnoses", "Why a laptop is not seen or reached", models.DoctorAsked, do=management.diagnose),
)
