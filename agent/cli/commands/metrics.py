"""``backroom metrics``."""

from __future__ import annotations

from agent.cli.run import FAILED, Session, command


@command(name="metrics")
async def metrics(session: Session) -> int | None:
    """Print the numbers for Prometheus (for its textfile collector); with --json, how the agent is.

    With --json, exits with 1 where something needs attention.
    """
    from agent.operations.health import health
    from agent.operations.health import metrics as numbers
    from agent.operations.workspace import Workspace

    workspace = Workspace(session.home)
    if not session.output.as_json:
        session.output.say((await numbers(workspace)).decode().rstrip("\n"))
        return None
    seen = await health(workspace)
    session.output.result(seen.as_dict())
    return None if seen.ok else FAILED
