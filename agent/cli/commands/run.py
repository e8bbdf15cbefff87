"""``backroom run``."""

from __future__ import annotations

from agent.cli.run import Session, command


@command(name="run")
async def run(session: Session) -> None:
    """Run the agent: be found by the other laptops and serve them, until stopped with Ctrl+C.

    Leave it running on every laptop. Other commands work beside it, and without it.
    """
    from agent.app import run_agent

    def ready(port: int) -> None:
        session.output.say(f"Ready on port {port}. Stop with Ctrl+C.")
        session.output.result({"ready": True, "port": port})

    await run_agent(session.home, ready=ready)
