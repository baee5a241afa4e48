"""Reading pickles that somebody else wrote, without letting them do anything.

RQ keeps arguments and meta as pickles, and a pickle is a program: reading it the usual way runs whatever its
writer named. Here it may name data types only, or besides them what is defined in modules that were allowed.
"""

from __future__ import annotations

import collections
import importlib
import inspect
import io
import pickle
import pickletools
import zlib
from collections.abc import Collection
from typing import Any

from cronq.errors import CronqError

#: Types that hold data and do nothing when they are made, however large a number they are given.
_DATA_TYPES = {
    "builtins": {"set", "frozenset", "complex"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "uuid": {"UUID"},
    "collections": {"OrderedDict", "deque"},
}
#: Besides those, what arguments may hold. They are read in a child that is watched: it may hang, or die of them.
_ARGUMENT_TYPES = {
    "builtins": {"bytearray", "range", "slice"},
    "collections": {"Counter"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath"},
    "pathlib._local": {"Path", "PosixPath", "PurePath", "PurePosixPath"},
}
#: A pickled call that is larger is refused, in bytes.
_MOST_BYTES = 64 * 1024 * 1024
#: A larger meta is refused: keys of equal hash cost the square of their number, in 64 KiB at most a tenth of a second.
MOST_META = 64 * 1024
#: Deeper data is refused: hashing nested tuples takes C stack, without a limit. `pickle` itself writes less.
_DEEPEST = 1000
#: Most objects in plain data, each counted as often as it is met: thirty tuples that each hold the one before twice are
#: a billion.
_MOST_OBJECTS = 1_000_000
#: What is unpacked of a call to find the name of its function, and the longest such name.
_MOST_HEAD = 8 * 1024
_MOST_NAME = 1000
#: Operations that give a number to an object, and those that fetch one by its number.
_NUMBERING = ("PUT", "BINPUT", "LONG_BINPUT")
_FETCHING = ("GET", "BINGET", "LONG_BINGET")
#: Operations that say nothing of the call: they may stand before the name of its function, or right behind it.
_SILENT = {"PROTO", "FRAME", "MARK", "MEMOIZE", *_NUMBERING}
#: Operations that put into an object what follows it on the stack.
_FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
#: Operations of a call whose arguments are a few texts, and how many it may have.
_OF_TEXTS = {"NONE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT", "STOP"}
_MOST_OF_TEXTS = 100
#: Types of plain data that hold others.
_HOLDERS = (dict, list, tuple, set, frozenset, collections.deque)
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
#: Says that every module is allowed.
ANY = "*"


class PickleRefused(CronqError):
    """A pickle names something that it may not name, or cannot be read."""


class _Reader(pickle.Unpickler):
    """Finds data types, and what the modules *allowed* define."""

    def __init__(self, raw: bytes, allowed: Collection[str]) -> None:
        super().__init__(io.BytesIO(raw))
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        if name in _DATA_TYPES.get(module, ()) or ANY in self._allowed:
            return super().find_class(module, name)
        if self._allowed and name in _ARGUMENT_TYPES.get(module, ()):
            return super().find_class(module, name)
        if is_within(module, self._allowed):
            return find_within(module, name, self._allowed)
        raise PickleRefused(f"it names {module}.{name}")


class _Sizes:
    """The depth and the number of the objects that a pickle would make, reckoned from its operations alone.

    Exact for what is hashed while a pickle is read: tuples and the like are made of objects that are complete.
    Lists and mappings may still grow; `_check_size` counts what came of them.
    """

    def __init__(self) -> None:
        self._stack: list[tuple[int, int]] = []  #: (depth, objects)
        self._marks: list[int] = []  #: heights of the stack
        self._numbered: dict[int, tuple[int, int]] = {}
        self._work = 0

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow one operation. Raises PickleRefused when it makes too much; for a damaged pickle any other error."""
        name = opcode.name
        if name == "MARK":
            self._marks.append(len(self._stack))
        elif name in _FETCHING:
            self._stack.append(self._numbered[int(argument)])
        elif name == "DUP":
            self._stack.append(self._stack[-1])
        elif name == "MEMOIZE" or name in _NUMBERING:
            self._numbered[len(self._numbered) if name == "MEMOIZE" else int(argument)] = self._stack[-1]
        elif name == "POP" and self._marks and len(self._stack) == self._marks[-1]:
            self._marks.pop()
        else:
            taken = self._take(list(opcode.stack_before))
            depth, objects = 1 + max((each[0] for each in taken), default=0), 1 + sum(each[1] for each in taken)
            self._work += objects - (taken[0][1] if name in _FILLING and taken else 0)
            if depth > _DEEPEST:
                raise PickleRefused(f"its pickle is nested more than {_DEEPEST:,} deep")
            if self._work > _MOST_OBJECTS:
                raise PickleRefused(f"its pickle stands for more than {_MOST_OBJECTS:,} objects")
            if opcode.stack_after:
                self._stack.append((depth, objects))

    def _take(self, wanted: list[pickletools.StackObject]) -> list[tuple[int, int]]:
        taken: list[tuple[int, int]] = []
        if pickletools.markobject in wanted:
            height = self._marks.pop()
            taken = self._stack[height:]
            del self._stack[height:]
            wanted = wanted[: wanted.index(pickletools.markobject)]
        if len(self._stack) < len(wanted):
            raise ValueError("an operation takes what is not there")
        if wanted:
            taken = self._stack[-len(wanted) :] + taken
            del self._stack[-len(wanted) :]
        return taken


def _check(raw: bytes, most: int, *, is_data: bool) -> None:
    """Raise PickleRefused for a pickle that would take much more memory to read than it is large.

    With *is_data* also for one that would take too much time or stack. Python makes room for as many objects as the
    highest number that a pickle gives to one: nine bytes ask for 32 GiB.
    """
    if len(raw) > most:
        raise PickleRefused(f"a pickle of {len(raw):,} bytes is too large, {most:,} at most")
    sizes = _Sizes()
    try:
        for opcode, number, _ in pickletools.genops(raw):
            if opcode.name in _NUMBERING and int(number or 0) > len(raw):
                raise PickleRefused(f"its pickle numbers more objects than it can hold ({number})")
            if is_data:
                sizes.follow(opcode, number)
    except PickleRefused:
        raise
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise PickleRefused(f"its pickle cannot be read ({type(error).__name__})") from None


def _check_size(value: Any) -> None:
    """Raise PickleRefused for lists and mappings that hold each other: writing them out would never end."""
    left, todo = _MOST_OBJECTS, [value]
    while todo:
        each = todo.pop()
        inner = list(each) if isinstance(each, _HOLDERS) else []
        todo += inner
        todo += each.values() if isinstance(each, dict) else []
        left -= 1 + len(inner)
        if left < 0:
            raise PickleRefused(f"its pickle stands for more than {_MOST_OBJECTS:,} objects")


def load_data(raw: bytes, most: int = MOST_META) -> Any:
    """What a pickle of plain data of at most *most* bytes holds. Raises PickleRefused for anything else.

    Nothing of it was executed.
    """
    _check(raw, most, is_data=True)
    value = _load(raw, ())
    _check_size(value)
    return value


def load_texts(raw: bytes, most: int) -> Any:
    """What a pickle of at most *most* bytes holds that is only texts in tuples: the call of a run.

    Raises PickleRefused. The texts may be long: none is hashed, and the pickle has no more than some dozen operations.
    """
    try:
        for count, (opcode, _, _) in enumerate(pickletools.genops(raw)):
            if opcode.name not in _OF_TEXTS | _SILENT | _TEXTS | {*_FETCHING} or count > _MOST_OF_TEXTS:
                raise PickleRefused("it is no call with texts alone")
    except PickleRefused:
        raise
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise PickleRefused(f"its pickle cannot be read ({type(error).__name__})") from None
    return load_data(raw, most)


def load_within(raw: bytes, allowed: Collection[str]) -> Any:
    """What a pickle holds that names only data types and what the modules *allowed* define. Raises PickleRefused.

    Only for a process that is watched: reading may take long, or more stack than there is.
    """
    _check(raw, _MOST_BYTES, is_data=False)
    return _load(raw, allowed)


def _load(raw: bytes, allowed: Collection[str]) -> Any:
    try:
        return _Reader(raw, allowed).load()
    except PickleRefused as error:
        raise PickleRefused(f"its pickle is refused: {error}") from None
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise PickleRefused(f"its pickle cannot be read ({type(error).__name__})") from None


def read_data(raw: bytes, most: int = _MOST_BYTES) -> bytes:
    """The pickled call of an RQ job, unpacked. Raises PickleRefused, also for more than *most* bytes."""
    found, is_whole = _unpack(raw, most)
    if not is_whole:
        raise PickleRefused(f"its data is larger than {most:,} bytes, or cut off")
    return found


def _unpack(raw: bytes, most: int) -> tuple[bytes, bool]:
    """The first *most* bytes of what RQ compressed, and True if that is all of it. Raises PickleRefused."""
    if raw[:1] != b"x":  # very old releases did not compress
        return raw[:most], len(raw) <= most
    reader = zlib.decompressobj()
    try:
        found = reader.decompress(raw, most)
    except zlib.error as error:
        raise PickleRefused(f"its data cannot be read ({error})") from None
    return found, reader.eof


def read_function(raw: bytes) -> tuple[str, bool]:
    """The name of the function that an RQ job calls, and True if that is a method of an object in the pickle.

    *raw* is the job's data as Redis has it. Only its first operations are looked at and nothing of it is made, so
    that any process may ask. The name of a method comes without its class. Raises PickleRefused.
    """
    head, _ = _unpack(raw, _MOST_HEAD)
    name: str | None = None
    is_tuple = False  # of four: a shorter one has no mark before its items
    try:
        for opcode, value, _ in pickletools.genops(head):
            if name is not None and opcode.name not in _SILENT:
                return name, opcode.name != "NONE"
            if is_tuple and opcode.name in _TEXTS and len(str(value)) <= _MOST_NAME:
                name = str(value)
            elif opcode.name not in _SILENT:
                break
            is_tuple = is_tuple or opcode.name == "MARK"
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise PickleRefused(f"its data cannot be read ({type(error).__name__})") from None
    raise PickleRefused("its data is not a call")


def is_within(module: str, allowed: Collection[str]) -> bool:
    """Return True if *module* is one of *allowed* or below one."""
    return ANY in allowed or any(module == each or module.startswith(f"{each}.") for each in allowed)


def find_within(module: str, name: str, allowed: Collection[str]) -> Any:
    """The class or function *name* that *module* defines. Raises PickleRefused for what it only imported.

    A module that says `import os` would else lend its name to `os.system`.
    """
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not is_defined_within(found, allowed):
        raise PickleRefused(f"{module}.{name} is not defined in a module that is allowed")
    return found


def is_defined_within(found: Any, allowed: Collection[str]) -> bool:
    """Return True if *found* is a class or function whose code stands in one of the modules *allowed*."""
    if ANY in allowed:
        return True
    found = inspect.unwrap(found) if inspect.isfunction(found) else found
    if inspect.ismethod(found):
        found = found.__func__
    is_code = inspect.isclass(found) or inspect.isfunction(found)
    return is_code and is_within(str(getattr(found, "__module__", "")), allowed)
