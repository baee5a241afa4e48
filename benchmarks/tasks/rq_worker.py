"""`rq worker`, with the job module imported before the first fork: RQ's advice, and what cronq does."""

from __future__ import annotations

import stamp  # noqa: F401  a child would import it anew for each job
from rq.cli import main

if __name__ == "__main__":
    main()
