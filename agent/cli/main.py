"""The command ``backroom``. Commands are imported when they are called: starting must be quick."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys

import click

from agent.cli.output import Output

# Name of the command -> module below agent.cli.commands, and where it stands in the help.
COMMANDS = {
    "Set up": {
        "init": "setup",
        "shop": "shop",
        "invite": "shop",
        "join": "shop",
        "run": "run",
        "open": "open",
        "service": "service",
        "demo": "demo",
    },
    "Trust": {
        "device": "devices",
        "clone": "devices",
        "requests": "requests",
        "approve": "requests",
        "decline": "requests",
        "permissions": "requests",
        "authority": "identity",
        "renew": "identity",
        "identity": "identity",
        "replace": "replace",
    },
    "See": {
        "status": "status",
        "devices": "devices",
        "businesses": "look",
        "tables": "look",
        "history": "history",
        "inspect": "look",
        "compare": "compare",
        "transfers": "transfer",
        "doctor": "doctor",
    },
    "Do": {
        "backup": "backup",
        "restore": "restore",
        "undo": "undo",
        "push": "transfer",
        "pull": "transfer",
        "cancel": "transfer",
        "revoke": "devices",
    },
    "Platform files": {"export": "platform_json", "import": "platform_json"},
    "Deliver": {"deliver": "deliver", "delivery": "deliver", "keys": "keys"},
    "Look after": {
        "archive": "archive",
        "verify": "verify",
        "drill": "drill",
        "prune": "prune",
        "schedule": "schedule",
        "metrics": "metrics",
    },
}
MODULES = {name: module for group in COMMANDS.values() for name, module in group.items()}


class Backroom(click.Group):
    """Loads a command's module when it is asked for; lists commands by what people want to do."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = MODULES.get(cmd_name)
        if module is None:
            return None
        loaded = importlib.import_module(f"agent.cli.commands.{module}")
        found: click.Command = getattr(loaded, cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, names in COMMANDS.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(90) if command else ""))
            with formatter.section(heading):
                formatter.write_dl(rows)


@click.group(cls=Backroom, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--home", metavar="DIR", help="The data folder (else BACKROOM_HOME, else the user's own).")
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON value on standard output.")
@click.version_option(package_name="backroom", prog_name="backroom")
def cli(home: str | None, as_json: bool) -> None:
    """Keeps a shop's laptops in step.

    Backroom runs on every laptop beside the shop's platform (PostgreSQL). Laptops find each other on the network, push
    a business to one another as a signed, encrypted bundle, and keep backups.

    \b
    A first shop, on the first laptop:
      backroom init --database postgresql://user:password@localhost/shop --name laptop-office-001
      backroom shop create "Corner Shops"
      backroom run                      (leave it running; on every laptop)
      backroom invite                   (shows a code for the next laptop)
    On the next laptop:
      backroom init --database ... --name laptop-sales-002
      backroom join CODE
    Then, from either:
      backroom push "Restaurant ABC" laptop-sales-002
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 130 stopped by Ctrl+C."""
    # Looking for garbage was a sixth of a short command: what is imported stays, and the rest goes with the process.
    gc.set_threshold(20_000)
    atexit.register(gc.freeze)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = cli.main(arguments, prog_name="backroom", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        sys.exit(2)
    except click.UsageError as error:
        if "--json" in arguments:
            hint = f"See `{error.ctx.command_path} --help`." if error.ctx else "See `backroom --help`."
            Output(as_json=True).error("usage", error.format_message(), hint)
        else:
            error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        Output(as_json="--json" in arguments).error("usage", error.format_message(), "")
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
