"""The QR code of an invitation: it says what the person would type."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from codecs import getincrementaldecoder
from pathlib import Path

import pytest
import segno

from agent.cli.qr import drawn
from agent.config import change
from agent.home import Home
from certs.store import Store
from tests.support.agents import BACKROOM, environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")


def test_the_modules_of_the_code_are_drawn_two_in_a_character() -> None:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", drawn("backroom join 7-copper-lantern-violin")).splitlines()
    light = {"█": (1, 1), "▀": (1, 0), "▄": (0, 1), " ": (0, 0)}
    rows = [[light[each][half] for each in line] for line in lines for half in (0, 1)]
    wanted = segno.make("backroom join 7-copper-lantern-violin", error="l", micro=False).matrix_iter(border=2)
    assert [row for row in rows if any(row)] == [[1 - module for module in row] for row in wanted]


def test_an_invitation_on_a_terminal_shows_its_command_as_a_qr_code(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.load_or_create_identity("laptop-office-001")
    store.create_shop("Corner Shops")
    change(Home(tmp_path), name="laptop-office-001", listen=("127.0.0.1",), port=0)
    ours, theirs = os.openpty()
    inviting = subprocess.Popen(
        [*BACKROOM, "--home", str(tmp_path), "invite"],
        env=environment({"TERM": "xterm"}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        shown, text = "", getincrementaldecoder("utf-8")()
        while shown.count("\x1b[97;40m") < 15 or not shown.endswith("\n"):
            shown += text.decode(os.read(ours, 65536))
    finally:
        inviting.kill()
        inviting.wait()
        os.close(ours)
    shown = shown.replace("\r", "")
    code, port = re.search(r"Code: (\S+)", shown), re.search(r"Waiting on port (\d+)", shown)
    assert code is not None, shown
    assert port is not None, shown
    assert drawn(f"backroom join {code[1]} --address 127.0.0.1:{port[1]}") in shown
