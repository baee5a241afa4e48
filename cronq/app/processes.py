"""What a face that starts processes takes of the operating system."""

from __future__ import annotations

from cronq.process.system import die_with_parent as die_with_parent
