"""Housekeeping that the Procfile starts: naming this package registers all of its jobs.

Each job works unconfigured, on files of its own below `.cronq/workers`, and is turned to real work by `CRONQ_…`
variables, which are read anew at each run.
"""

from workers import directory_digest, disk_watch, log_pruning, sqlite_backup

__all__ = ["directory_digest", "disk_watch", "log_pruning", "sqlite_backup"]
