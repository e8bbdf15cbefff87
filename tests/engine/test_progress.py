"""The pace of long work: rate and time left, by the work itself and by past runs."""

from __future__ import annotations

import io
from pathlib import Path

from agent.cli.output import Output
from agent.cli.progress import shown, words
from agent.engine.progress import BYTES, Pace, Step
from agent.home import Home
from agent.operations.handing import telling
from agent.operations.rates import keep_rates, past_rates


def at(done: int, *, stage: str = "backing up", unit: str = "rows") -> Step:
    return Step(stage, done, 1000, "orders", unit)


def test_rate_and_time_left_follow_the_last_seconds() -> None:
    pace = Pace()
    pace.note(at(0), 100.0)
    assert (pace.rate, pace.seconds_left) == (None, None)
    pace.note(at(100), 101.0)
    assert (pace.rate, pace.seconds_left) == (100.0, 9.0)
    for second in range(2, 30):
        pace.note(at(100 + 10 * second), 100.0 + second)
    assert pace.rate is not None
    assert 9 < pace.rate < 12
    pace.note(Step("checking"), 131.0)
    assert pace.seconds_left is None


def test_past_runs_speak_first_and_learn_slowly() -> None:
    pace = Pace({"backing up": 50.0})
    pace.note(at(0), 0.0)
    assert (pace.rate, pace.seconds_left) == (50.0, 20.0)
    pace.note(at(1000), 10.0)
    pace.end()
    assert pace.rates == {"backing up": 50.0 + 0.3 * 50.0}


def test_what_people_read() -> None:
    pace = Pace()
    pace.note(at(0), 0.0)
    pace.note(at(400), 2.0)
    assert words(Step("backing up", 400, 1000, "orders", bytes=2048), pace) == (
        "400 of 1,000 rows, 2.0 kB, 200 rows/s, 3.0 s left, orders"
    )
    pace = Pace()
    step = Step("delivering", 1_000_000, 4_000_000, "a.bundle", BYTES)
    pace.note(Step("delivering", 0, 4_000_000, unit=BYTES), 0.0)
    pace.note(step, 1.0)
    assert words(step, pace) == "1.0 MB of 4.0 MB, 1.0 MB/s, 3.0 s left, a.bundle"
    assert words(Step("finding rows"), Pace()) == ""


def test_rates_are_kept_for_the_next_run_and_damage_is_no_matter(tmp_path: Path) -> None:
    home = Home(tmp_path).ensure()
    assert past_rates(home) == {}
    keep_rates(home, {"verifying": 5e8})
    assert past_rates(home) == {"verifying": 5e8}
    (home.state / "rates.json").write_text('{"verifying": "fast"}')
    assert past_rates(home) == {}
    with shown(Output(as_json=True, out=io.StringIO(), err=io.StringIO()), home) as progress:
        progress(at(0))
        progress(at(10))
    assert past_rates(home) == {}  # over in no time: that says nothing


def test_what_moves_over_the_network_is_told_in_bytes() -> None:
    seen: list[Step] = []
    tell = telling(seen.append)
    tell("sending", 1_000_000, 4_000_000, "1.0 MB/s, 3 s left")
    tell("applying", 10, 20, "comparing")
    assert seen == [Step("sending", 1_000_000, 4_000_000, unit=BYTES), Step("applying", 10, 20, "comparing")]
