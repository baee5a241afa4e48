"""Calls to Redis that are lost, sent twice or late, and processes that are killed between any two of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError

if TYPE_CHECKING:
    from tests.redis.ledger_acts import Act


class Killed(BaseException):
    """The process is gone."""


@dataclass(frozen=True)
class Fault:
    """What happens at the *call*th call of an act, counted from 1."""

    call: int
    kind: str  #: one of KINDS, or `meanwhile`: the call is late
    acts: tuple[Act, ...] = ()  #: what others do before a late call is sent


#: The process is killed before the call is sent, or before it reads the reply; the call or its reply is lost; the reply
#: is lost and redis-py sends the call again.
KINDS = ("kill before", "kill after", "lost call", "lost reply", "sent twice")


class Wire:
    """Between a process and Redis."""

    def __init__(self) -> None:
        self.calls = 0
        self.is_dead = False
        self.fault: Fault | None = None
        self.meanwhile: Callable[[tuple[Act, ...]], None] = lambda acts: None
        self.has_struck = ""  #: the kind of fault that has happened
        self.is_reading = False  #: the call reads what is due, by the server's own time: others act before or after it

    def arm(self, fault: Fault | None) -> None:
        self.calls, self.fault, self.has_struck = 0, fault, ""

    def pass_on(self, send: Callable[[], Any]) -> Any:
        if self.is_dead:
            raise Killed
        self.calls += 1
        fault = self.fault
        if fault is not None and fault.kind == "meanwhile" and self.is_reading and self.calls == fault.call:
            self.fault = fault = replace(fault, call=fault.call + 1)
        if fault is None or self.calls != fault.call:
            return send()
        self.fault, self.has_struck = None, fault.kind
        if fault.kind == "lost call":
            raise RedisConnectionError("the call was lost")
        if fault.kind == "kill before":
            self.is_dead = True
            raise Killed
        if fault.kind == "meanwhile":
            self.meanwhile(fault.acts)
            return send()
        send()
        if fault.kind == "lost reply":
            raise RedisConnectionError("the reply was lost")
        if fault.kind == "kill after":
            self.is_dead = True
            raise Killed
        return send()


class WiredPipeline(Pipeline):
    """A pipeline, each execution of which is one call."""

    wire: Wire

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = list(self.command_stack)

        def send() -> Any:
            self.command_stack = list(commands)
            return super(WiredPipeline, self).execute(raise_on_error)

        found: list[Any] = self.wire.pass_on(send)
        return found


class WiredRedis(Redis):
    """A client whose calls go through a wire."""

    wire: Wire

    def execute_command(self, *args: Any, **options: Any) -> Any:
        def send() -> Any:
            return super(WiredRedis, self).execute_command(*args, **options)  # type: ignore[no-untyped-call]

        return self.wire.pass_on(send)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        made = WiredPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        made.wire = self.wire
        return made
