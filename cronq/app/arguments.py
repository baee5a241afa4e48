"""Arguments of runs, as people write them."""

from __future__ import annotations

import json
from typing import Any

from cronq.db.decode import read_json


def argument_of(word: str) -> Any:
    """Return the value that *word* stands for: that of a JSON text, else the word itself.

    Raises BadValue for JSON that no run takes: NaN, infinity, or nested deeper than a reader follows.
    """
    try:
        json.loads(word)
    except ValueError:
        return word  # plain text
    except RecursionError:
        pass
    return read_json(word)
