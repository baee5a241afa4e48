"""Reading pickles that somebody else wrote, without letting them do anything.

RQ keeps arguments and meta as pickles, and a pickle is a program: reading it the usual way runs whatever its
writer named. Here it may name data types only, or besides them what is defined in modules that were allowed.
"""

from __future__ import annotations

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
#: ... and those of arguments, which are read in a child that is watched.
_ARGUMENT_TYPES = {
    "builtins": {"bytearray", "range", "slice"},
    "collections": {"Counter"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath"},
    "pathlib._local": {"Path", "PosixPath", "PurePath", "PurePosixPath"},
}
#: More than this is no call and no meta.
_MOST_BYTES = 64 * 1024 * 1024
#: Operations that give a number to an object.
_NUMBERING = ("PUT", "LONG_BINPUT")
#: Says that every module is allowed.
ANY = "*"


class PickleRefused(CronqError):
    """A pickle names what it may not, or is none."""


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


class _Inert:
    """Stands for whatever a pickle would have made, and swallows all that is done to it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Swallow an item."""

    def extend(self, values: Any) -> None:
        """Swallow items."""

    def add(self, value: Any) -> None:
        """Swallow an item."""


class _InertReader(pickle.Unpickler):
    """Makes inert objects of everything that a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        return _Inert

    def persistent_load(self, pid: Any) -> Any:
        return _Inert()


def _check_size(raw: bytes) -> None:
    """Raise PickleRefused for what would take much more memory than its own size.

    Python makes room for as many objects as the highest number that a pickle gives to one: nine bytes ask for 32 GiB.
    """
    if len(raw) > _MOST_BYTES:
        raise PickleRefused(f"a pickle of {len(raw):,} bytes is too large")
    try:
        for opcode, number, _ in pickletools.genops(raw):
            if opcode.name in _NUMBERING and isinstance(number, int) and number > len(raw):
                raise PickleRefused(f"its pickle numbers more objects than it can hold ({number})")
    except PickleRefused:
        raise
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise PickleRefused(f"its pickle cannot be read ({type(error).__name__})") from None


def load_plain(raw: bytes) -> Any:
    """What a pickle of plain data holds. Raises PickleRefused for anything else; nothing of it was executed."""
    return load_within(raw, ())


def load_within(raw: bytes, allowed: Collection[str]) -> Any:
    """What a pickle holds that names only data types and what the modules *allowed* define. Raises PickleRefused."""
    _check_size(raw)
    try:
        return _Reader(raw, allowed).load()
    except PickleRefused as error:
        raise PickleRefused(f"its pickle is refused: {error}") from None
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise PickleRefused(f"its pickle cannot be read ({type(error).__name__})") from None


def read_data(raw: bytes) -> bytes:
    """What RQ compressed: the pickled call of an RQ job. Raises PickleRefused, also for what would grow too large."""
    if raw[:1] != b"x":  # very old releases did not compress
        return raw
    reader = zlib.decompressobj()
    try:
        found = reader.decompress(raw, _MOST_BYTES)
    except zlib.error as error:
        raise PickleRefused(f"its data cannot be read ({error})") from None
    if reader.unconsumed_tail:
        raise PickleRefused(f"its data is larger than {_MOST_BYTES:,} bytes")
    if not reader.eof:
        raise PickleRefused("its data cannot be read (it is cut off)")
    return found


def read_function(raw: bytes) -> tuple[str, bool]:
    """The name of the function that an RQ job calls, and whether it is a method of an object in the pickle.

    The name of a method comes without its class. Nothing of the pickle is made. Raises PickleRefused.
    """
    _check_size(raw)
    try:
        call = _InertReader(io.BytesIO(raw)).load()
    except Exception as error:
        raise PickleRefused(f"its data cannot be read ({type(error).__name__})") from None
    if not isinstance(call, tuple) or len(call) != 4 or not isinstance(call[0], str):
        raise PickleRefused("its data is not a call")
    return call[0], call[1] is not None


def is_within(module: str, allowed: Collection[str]) -> bool:
    """Whether *module* is one of *allowed* or below one."""
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
    """Whether *found* is a class or function whose code stands in one of the modules *allowed*."""
    if ANY in allowed:
        return True
    found = inspect.unwrap(found) if inspect.isfunction(found) else found
    if inspect.ismethod(found):
        found = found.__func__
    is_code = inspect.isclass(found) or inspect.isfunction(found)
    return is_code and is_within(str(getattr(found, "__module__", "")), allowed)
