"""The arguments of a job: JSON on the way in, of a size and a depth that every reader can bear."""

from __future__ import annotations

import json
from typing import Any

from cronq.db.decode import MOST_DEPTH, is_deeper
from cronq.errors import DefinitionError

#: A spec and a run's row wrap the arguments into a few more brackets; what is read back may be `MOST_DEPTH` deep.
_MOST_NESTED = MOST_DEPTH - 10


def dump_args(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Arguments as JSON text. Raises DefinitionError naming the argument that JSON cannot carry."""
    places = [*((f"args[{i}]", v) for i, v in enumerate(args)), *((f"kwargs[{k!r}]", v) for k, v in kwargs.items())]
    for place, value in places:
        try:
            same = json.loads(json.dumps(value, allow_nan=False)) == _listed(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise DefinitionError(
                f"{short(value)} is not JSON ({error}); pass text, numbers, lists or mappings",
                field=place,
            ) from error
        if not same:
            raise DefinitionError(f"{short(value)} changes on its way through JSON; use text as keys", field=place)
    text = json.dumps([list(args), kwargs], separators=(",", ":"), allow_nan=False)
    if is_deeper(text, _MOST_NESTED):
        problem = f"lists and mappings are nested more than {_MOST_NESTED} deep; pass a path or a key instead"
        raise DefinitionError(problem, field="args")
    return text


def check_size(args_json: str, most: int, *, job: str) -> None:
    """Raise DefinitionError for arguments of more than *most* bytes: one Redis thread serves everybody."""
    size = len(args_json.encode(errors="surrogatepass"))
    if size > most:
        raise DefinitionError(
            f"{size:,} bytes, and {most:,} are allowed (CRONQ_MAX_ARGS); pass a path or a key instead",
            job=job,
            field="args",
        )


def _listed(value: Any) -> Any:
    """Tuples as the lists that JSON makes of them."""
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return value


def short(value: Any) -> str:
    """*value* as it is written, cut to what fits into a message of one line."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."
