"""A process that writes to a journal until it is killed, saying on stdout what was acknowledged.

python journal_writer.py JOURNAL SEED PREFIX
"""

from __future__ import annotations

import random
import sys

from definet_flows.stores.journal import JournalStore


def main() -> None:
    path, seed, prefix = sys.argv[1:]
    chance = random.Random(int(seed))  # noqa: S311 - seeded on purpose
    known: list[str] = []
    with JournalStore(path) as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for k in range(1_000_000):
            known.append(f"{prefix}-{k}")
            batch = [known[-1], *chance.sample(known, min(len(known), chance.choice((0, 0, 1, 3))))]
            store.update([{"id": name, "round": k, "table": [k] * chance.choice((1, 500))} for name in set(batch)])
            # One write of a whole line: what is read of it was acknowledged.
            sys.stdout.write(f"{k} {' '.join(set(batch))}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
