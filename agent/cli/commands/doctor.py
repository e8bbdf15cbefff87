"""``backroom doctor``."""

from __future__ import annotations

import click

from agent.cli.run import FAILED, Session, command


@command(name="doctor")
@click.argument("device", required=False)
@click.option("--wait", type=float, default=6.0, show_default=True, help="Seconds to wait for answers.")
async def doctor(session: Session, device: str | None, wait: float) -> int | None:
    """Find out why a laptop cannot be seen or reached: DEVICE, or all of the shop.

    Looks at the agent and its port, the network (firewall, multicast, VPN, subnets), clocks and certificates, the disk,
    the database's rights and tables, and asks every laptop. Each finding is a line with what to do. Exit code 0: all is
    well; 1: there are findings.
    """
    from agent.operations.doctor import doctor as examine
    from agent.operations.workspace import Workspace

    diagnosis = await examine(Workspace(session.home), device, within=wait)
    say = session.output.say
    for finding in diagnosis.findings:
        say(f"{finding.code}: {finding.message} {finding.hint}")
    if diagnosis.well:
        say(f"All is well. Looked at: {', '.join(diagnosis.checked)}.")
    session.output.result(diagnosis.as_dict())
    return None if diagnosis.well else FAILED
