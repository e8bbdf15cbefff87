"""What the entries of the schedule do: operations, run and recorded, one at a time on a data folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, time, timedelta

from agent.archive.history import History, new_id
from agent.archive.records import DONE, FAILED, INTERRUPTED, RUNNING, RunRecord
from agent.archive.steps import to_the_end
from agent.config_care import ScheduleEntry
from agent.operations.errors import OperationError
from agent.operations.workspace import Workspace, utc_now
from agent.schedule.due import Entry, Past, Run, past_of
from protocol.manifest import Kind

KINDS = {"full": Kind.FULL, "business": Kind.BUSINESS, "full-device": Kind.FULL_DEVICE}
_RECENT = timedelta(days=100)


class CheckFailed(OperationError):
    code = "check-failed"
    hint = "See `backroom archive check` and `backroom history`; make a new backup."


def entry_of(settings: ScheduleEntry) -> Entry:
    """The entry as the rules on time know it."""
    return Entry(
        name=settings.name,
        task=settings.task,
        at=tuple(time.fromisoformat(each) for each in settings.at),
        days=settings.days,
        device=settings.device if settings.task == "push" else None,
        when_online=settings.when_online,
        jitter=timedelta(minutes=settings.jitter_minutes),
        alarm_after=timedelta(hours=settings.alarm_hours),
        added=settings.added,
    )


async def pasts(history: History, now: datetime) -> Mapping[str, Past]:
    """What the history says of each entry's runs."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for record in await history.runs(since=now - _RECENT):
        if record.state != RUNNING:
            runs[record.entry].append(Run(record.started_at, record.slot, record.state == DONE))
    return {name: past_of(each, now) for name, each in runs.items()}


async def run_entry(
    workspace: Workspace, history: History, entry: ScheduleEntry, slot: datetime | None = None
) -> RunRecord:
    """Do what the entry says now and record it; a failure is a record, not an error.

    Raises ``HomeBusyError`` where an entry runs already: never two at once.
    """
    with workspace.home.lock("schedule"):
        record = RunRecord(new_id(), entry.name, entry.task, RUNNING, started_at=utc_now(), slot=slot)
        try:
            # To its end, so that what is cancelled meanwhile has a record that can end.
            await to_the_end(history.start_run(record))
            detail = await _do(workspace, history, entry)
        except Exception as error:
            code = str(getattr(error, "code", "unexpected"))
            return await history.end_run(record.id, FAILED, error_code=code, error=str(error) or type(error).__name__)
        except BaseException:
            await history.end_run(record.id, INTERRUPTED, error="It was stopped.")
            raise
        return await history.end_run(record.id, DONE, detail=detail)


async def _do(workspace: Workspace, history: History, entry: ScheduleEntry) -> str:
    # What a task needs is imported when it is due: most of a day nothing is.
    match entry.task:
        case "backup":
            from agent.engine.backup import BackupRequest
            from agent.operations.backups import make_backup

            assert entry.kind is not None
            made = await make_backup(workspace, history, BackupRequest(KINDS[entry.kind], entry.business))
            return f"{made.record.records} rows, {made.record.size} bytes, {made.record.filename}"
        case "push":
            from agent.operations.transfers import push

            assert entry.business is not None
            assert entry.device is not None
            done = await push(workspace, history, entry.business, entry.device)
            return f"{done.backup.records} rows to {done.member.name}: {done.receipt.outcome}"
        case "verify":
            return await _verify(workspace, history)
        case "drill":
            return await _drill(workspace, history)
        case "prune":
            from agent.operations.prune import prune

            pruned = await prune(workspace, history)
            return f"{len(pruned.removed)} to the trash, {len(pruned.deleted)} deleted"


async def _verify(workspace: Workspace, history: History) -> str:
    from agent.operations.verify import files_to_verify, verify_files

    files = await files_to_verify(workspace, history, due=True)
    done = [each async for each in verify_files(workspace, history, files)]
    if bad := [each for each in done if not each.ok]:
        named = "; ".join(f"{each.file.name}: {each.problem}" for each in bad[:5])
        raise CheckFailed(f"{len(bad)} of {len(done)} backups do not hold: {named}")
    return f"{len(done)} backups hold"


async def _drill(workspace: Workspace, history: History) -> str:
    from agent.operations.drills import drill

    done = [each async for each in drill(workspace, history)]
    if bad := [each for each in done if not each.passed]:
        named = "; ".join(f"{each.backup.filename}: {each.record.error}" for each in bad[:5])
        raise CheckFailed(f"{len(bad)} of {len(done)} drills failed: {named}")
    return f"{len(done)} backups were restored, compared and written to"
