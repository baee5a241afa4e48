"""What happens in the process that does the work: a job's function or command, and nothing else of cronq.

The guardian reads the outcome from the result file and the exit status; this module never touches Redis.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from cronq.db.decode import MOST_DEPTH, is_deeper, read_json
from cronq.errors import BadValue, CronqError, RunRefused
from cronq.interop.pickles import PickleRefused, find_within, is_within
from cronq.jobs.registry import REGISTRY, Definition
from cronq.jobs.spec import JobSpec, make_spec
from cronq.process.longlived import leave_after_this
from cronq.process.system import flush_standard_streams
from cronq.run_context import CurrentRun, Snooze, enter_run
from cronq.safetext import storable
from cronq.worker.command import further_words, order_of, prepare

if TYPE_CHECKING:
    from cronq.interop.perform import RQJobWork

log = logging.getLogger("cronq.worker")

#: More of a result, an error or a reason than this is cut: one Redis thread serves everybody.
_MOST_RESULT = 1_000_000
_MOST_ERROR = 20_000
_MOST_REASON = 1000
_MOST_FILE = _MOST_RESULT + 10_000
#: Where cronq's own frames lie, which tell a person nothing of the job.
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def order_for(spec: JobSpec, run: CurrentRun, args_json: str) -> dict[str, Any]:
    """The order for a child: everything it needs for one run, as JSON."""
    return {
        "job": spec.name,
        "function": spec.function,
        "command": order_of(spec) if spec.command is not None else None,
        "args": args_json,
        "run": run.__dict__,
    }


def dispatch(rq_jobs: RQJobWork) -> Callable[[Mapping[str, Any], BinaryIO], int]:
    """What a worker's children do with an order: a run of cronq's, or by *rq_jobs* an RQ job that is not."""

    def work(order: Mapping[str, Any], result_file: BinaryIO) -> int:
        if "rq_job" in order:
            return rq_jobs.perform(order, result_file)
        if "webhooks" in order:
            return rq_jobs.send_webhooks(order, result_file)
        _define_adopted(order, rq_jobs.allowed)
        return child_main(order, result_file)

    return work


def _define_adopted(order: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Register the function of an adopted job, which no decorator names, if its module is *allowed*."""
    name, path = order["job"], order.get("function")
    if not path or REGISTRY.find(name) is not None:
        return
    module, _, qualname = path.partition(":")
    if not allowed or not is_within(module, allowed):
        return
    try:
        function = find_within(module, qualname, allowed)
    except (ImportError, AttributeError, PickleRefused) as error:
        log.error("ALLOW %s cannot be found: %s", path, error)
        return
    REGISTRY.definitions[name] = Definition(make_spec(name, function=path), "adopted", module, function)


def child_main(order: Mapping[str, Any], result_file: BinaryIO) -> int:
    """Do the work of one run. Return the exit code.

    Leaves `{"value", "notes"}`, `{"snooze", "notes"}` or `{"error", "traceback"}` in the result file.
    """
    run = CurrentRun(**order["run"])
    enter_run(run)
    if order["command"] is not None:
        return _exec_command(order["command"], order["args"], run, result_file)
    try:
        function = REGISTRY.function_of(order["job"])
        args, kwargs = json.loads(order["args"])
        value = call(function, args, kwargs)
    except SystemExit as leaving:
        return _exit_code(leaving, result_file)
    except BaseException as error:
        _write(result_file, describe_error(error))
        return 1
    _write(result_file, _success(value))
    return 0


def call(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call a job's function, and run a coroutine to its end. Return its value."""
    value = function(*args, **kwargs)
    if inspect.iscoroutine(value):
        return asyncio.run(value)
    return value


def describe_error(error: BaseException) -> dict[str, str]:
    """One line of what went wrong, and the traceback without cronq's own frames; both fit to be stored.

    Never raises, whatever class and text the exception has.
    """
    name, words = _words(type(error).__name__), " ".join(_words(error).split())
    one_line = f"{name}: {words}" if words else name
    if isinstance(error, CronqError):
        one_line = words
    try:
        lines = traceback.TracebackException.from_exception(error)
        while lines.stack and lines.stack[0].filename.startswith(_OURS):
            del lines.stack[0]
        told = "".join(lines.format())
    except Exception as trouble:  # what the exception refers to may be anything too
        told = f"{one_line}\n(its traceback cannot be made: {type(trouble).__name__})"
    return {"error": storable(one_line, _MOST_REASON), "traceback": storable(told, _MOST_ERROR)}


def _words(value: object) -> str:
    try:
        return storable(value)
    except BaseException:  # a `__str__` that calls sys.exit does not decide how the run ended
        return f"<{type(value).__name__} whose text cannot be made>"


def _exit_code(leaving: SystemExit, result_file: BinaryIO) -> int:
    code: Any = leaving.code
    if code is None or (isinstance(code, int) and code == 0):
        _write(result_file, _success(None))
        return 0
    _write(result_file, {"error": f"sys.exit({_repr(code)})", "traceback": ""})
    return (code & 0xFF or 1) if isinstance(code, int) else 1


def _success(value: Any) -> dict[str, Any]:
    """The result of a run that ended well: its value, and notes on what could not be kept."""
    notes = [] if flush_standard_streams() else ["the end of its output was lost"]
    if isinstance(value, Snooze):
        leave_after_this("snoozed")
        return {"snooze": value.after_s, "notes": notes}
    try:
        words = json.dumps(value, allow_nan=False)
        if len(words) > _MOST_RESULT:
            value = f"(a result of {len(words):,} bytes, not kept)"
        elif is_deeper(words, MOST_DEPTH - 1):
            raise RecursionError
    except RecursionError:
        value = None
        notes.append("its result is nested too deeply to be kept")
    except Exception:  # no JSON; or a class that pretends to be a dict
        value = _repr(value)
    return {"value": value, "notes": notes}


def _repr(value: object) -> str:
    try:
        return storable(repr(value))
    except BaseException:
        return f"<{type(value).__name__} whose text cannot be made>"


def _exec_command(order: Mapping[str, Any], args_json: str, run: CurrentRun, result_file: BinaryIO) -> int:
    """Become the command. Return the exit code if that is impossible."""
    program = order["words"][0]
    flush_standard_streams()
    try:
        prepare(order, run.environment(), further_words(args_json)).become()
    except RunRefused as refused:
        problem, code = str(refused), _NOT_EXECUTABLE
    except FileNotFoundError:
        problem, code = f"no such command: {program}", _NOT_FOUND
    except (OSError, ValueError) as error:  # ValueError: a spec that nobody checked, with NUL bytes
        problem, code = f"cannot execute {program}: {getattr(error, 'strerror', error)}", _NOT_EXECUTABLE
    _write(result_file, {"error": storable(problem, _MOST_REASON), "traceback": ""})
    return code


def _write(result_file: BinaryIO, document: dict[str, Any]) -> None:
    result_file.write(json.dumps(document).encode())
    result_file.flush()


def read_result(result_file: BinaryIO) -> dict[str, Any]:
    """The result that a child left in its file; {} when it left nothing (a command, or killed), or junk."""
    result_file.seek(0)
    raw = result_file.read(_MOST_FILE + 1)
    try:
        document = read_json(raw, most=_MOST_FILE) if raw else {}
    except BadValue:
        return {}
    return document if isinstance(document, dict) else {}
