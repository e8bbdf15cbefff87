"""``backroom status``."""

from __future__ import annotations

from agent.cli.output import count, moment
from agent.cli.run import Session, command


@command(name="status")
async def status(session: Session) -> None:
    """Show how this laptop stands: name, shop, database, agent, last backups and pushes."""
    from agent.operations.status import status as look
    from agent.operations.workspace import Workspace

    seen = await look(Workspace(session.home))
    say = session.output.say
    say(f"Laptop    {seen.name} ({seen.short_id})")
    shop = f"{seen.shop}, {seen.role}" if seen.shop else "none yet (`backroom shop create` or `backroom join`)"
    known = f", {count(seen.businesses or 0, 'business', 'businesses')}" if seen.database_ok else ""
    say(f"Shop      {shop}")
    say(f"Agent     {'running' if seen.agent_running else 'not running (`backroom run`)'}")
    say(f"Database  {seen.database}{known}")
    if not seen.database_ok:
        session.output.note(f"  {seen.database_hint}")
    say(f"Archive   {count(seen.bundles, 'bundle')} in {session.home.archive}")
    for what, at in seen.last.items():
        how = f" ({seen.last_drill})" if what == "drill" and at else ""
        say(f"Last {what}  {moment(at) if at else 'never'}{how}")
    for key in seen.alerts:
        say(f"ALERT     {key} (`backroom schedule list`)")
    session.output.result(seen.as_dict())
