"""Makes tests/vectors: bundles that are right, and bundles with one thing wrong with them each.

Run it with the environment's Python (`.venv/bin/python scripts/make_vectors.py`) after a change of the format; it
writes the same bytes every time. `vectors.toml` says what a reader must answer for each file, and at which stage:
`read` (the reader itself), `unpack` (a frame's rows are decoded), `verify` (the signature and who made it).
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "vectors"

sys.path.insert(0, str(ROOT))

from tests.vectors.drafts import FINANCE, Vector  # noqa: E402
from tests.vectors.files import good, wrong_records, wrong_start_and_end  # noqa: E402
from tests.vectors.frames import wrong_frames, wrong_seals  # noqa: E402
from tests.vectors.manifests import wrong_manifests, wrong_values  # noqa: E402


def vectors() -> list[Vector]:
    """All of them, in the order of the list."""
    sources = (good, wrong_start_and_end, wrong_records, wrong_values, wrong_manifests, wrong_frames, wrong_seals)
    return [vector for source in sources for vector in source()]


def listing(made: list[Vector]) -> str:
    """The text of vectors.toml."""
    lines = [
        "# Made by scripts/make_vectors.py. Each file is right, or has one thing wrong with it (protocol/FORMAT.md).",
        "# stage: read = the reader refuses it; unpack = the rows of a frame are refused; verify = the signature is.",
        f'source_node = "{FINANCE.node_id}"',
    ]
    for vector in made:
        lines += ["", f"[{vector.name}]", f"comment = {json.dumps(vector.comment)}"]
        if vector.error is not None:
            lines += [f'error = "{vector.error}"', f'stage = "{vector.stage}"']
    return "\n".join(lines) + "\n"


def main() -> None:
    made = vectors()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.bundle"):
        old.unlink()
    for vector in made:
        (FOLDER / f"{vector.name}.bundle").write_bytes(vector.data)
    (FOLDER / "vectors.toml").write_text(listing(made), encoding="utf-8", newline="\n")
    print(f"{len(made)} vectors in {FOLDER}")


if __name__ == "__main__":
    main()
