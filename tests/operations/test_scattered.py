"""A second push of rows that changed all over a table: it takes blocks over from the first, on both laptops."""

from __future__ import annotations

from pathlib import Path

from protocol.frames import Codec
from protocol.reader import BundleReader, FrameRead
from tests.support.agents import Shops

BUSINESS = "Restaurant ABC"
MORE = """
INSERT INTO business_transactions SELECT (jsonb_populate_record(t, jsonb_build_object(
    'id', 'made-' || n, 'description', md5(n::text) || md5((2 * n)::text)))).*
FROM business_transactions t, generate_series(1, 12000) n
WHERE t.id = (SELECT min(o.id) FROM business_transactions o JOIN businesses b ON b.id = o."businessId"
              WHERE b.name = 'Restaurant ABC')
"""
CHANGED = "UPDATE business_transactions SET description = 'changed {0}' WHERE id LIKE 'made-%{0}'"


def codecs(path: Path) -> set[Codec]:
    events = BundleReader().feed(path.read_bytes())
    return {event.frame.codec for event in events if isinstance(event, FrameRead)}


def test_blocks_are_taken_over_without_the_rows_that_changed(shops: Shops) -> None:
    office, kitchen = shops.laptop("laptop-office-001", "shop"), shops.laptop("laptop-kitchen-002")
    bar = shops.laptop("laptop-bar-003")
    shops.shop(office, kitchen, bar)
    office.execute(MORE)
    with kitchen.running() as agent:
        office.knows(agent.port)
        first = office.do("push", BUSINESS, kitchen.name)
        assert Codec.CUT not in codecs(Path(first["file"]))
        for digits in ("377", "511"):
            office.execute(CHANGED.format(digits))
            done = office.do("push", BUSINESS, kitchen.name)
            assert (done["outcome"], done["updated"], done["rows"]) == ("applied", 12, first["rows"])
            assert done["bytes_sent"] < done["bytes"] / 5
            assert Codec.CUT in codecs(Path(done["file"]))
            assert office.do("compare", "--business", BUSINESS, "--with", kitchen.name)["identical"]
        office.execute("DELETE FROM business_transactions WHERE id LIKE 'made-%399'")
        assert office.do("push", BUSINESS, kitchen.name)["rows"] == first["rows"] - 12
    # What either laptop keeps is a whole bundle, for anybody.
    kept = sorted(kitchen.files("archive/business"))[-2]
    assert kitchen.do("verify", str(kept))
    assert bar.do("restore", str(kept), "--yes")["inserted"] > 12000
    assert bar.do("compare", "--business", BUSINESS, "--with", str(kept))["identical"]
