"""The options of a job, as a face offers them: each with its help, its default and what it may be."""

from __future__ import annotations

from dataclasses import fields

from cronq.jobs.options import OPTIONS as OPTIONS
from cronq.jobs.options import Kind as Kind
from cronq.jobs.options import Option as Option
from cronq.jobs.spec import NOT_BUILT as NOT_BUILT
from cronq.jobs.spec import JobSpec

#: The options that are plain numbers although they are stored as durations are.
FACTORS = frozenset(option.name for option in OPTIONS if option.kind is Kind.FACTOR)
#: Name -> default of each option.
DEFAULTS = {item.name: item.default for item in fields(JobSpec)}
