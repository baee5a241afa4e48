"""Tells what changed in a directory since the tick of the last successful run."""

from __future__ import annotations

from cronq import current_run, job
from cronq.timetext import iso
from workers import directory_listing, directory_tree, environment, whole_file
from workers.tick import tick


@job("*/5 * * * *", description="Digest of what changed in a directory", timeout="4m", exclusive=True, tags=["files"])
def digest_directory() -> dict[str, object]:
    """Counts and the first names; all names are in a report, which stays until something changes again."""
    directory = environment.path("CRONQ_DIGEST_DIR", environment.home(), kind="directory").resolve()
    most = environment.integer("CRONQ_DIGEST_MAX_FILES", 100_000, least=1)
    store = environment.home().resolve() / "digest"
    store.mkdir(parents=True, exist_ok=True)
    run, now = current_run(), tick()
    since = run.previous_success if run is not None else max(directory_listing.ticks(store), default=None)
    before = None if since is None else directory_listing.load(store, since, directory)
    files, unread = directory_tree.walk(directory, skip=store, most=most)
    files |= {name: changed for name, changed in (before or {}).items() if name.startswith(unread)}
    found = compare(before, files, since)
    lines = [f"{mark} {_printable(name)}" for mark, names in zip("+~-", found.values(), strict=True) for name in names]
    if lines or since is None:
        span = f"from {iso(since)} to {iso(now)}" if since is not None else f"as of {iso(now)}, nothing to compare with"
        head = f"{_printable(str(directory))}, {span}: {len(files)} files; + new, ~ changed, - deleted"
        whole_file.write(store / "report.txt", "\n".join([head, *lines, ""]))
    directory_listing.save(store, now, directory, files, keep=since)  # last: who fails before tells it all again
    counts = {what: len(names) for what, names in found.items()}
    return {"since": iso(since), "files": len(files), **counts, "first": lines[:10]}


def compare(before: dict[str, int] | None, files: dict[str, int], since: int | None) -> dict[str, list[str]]:
    """Sorted names of the new, changed and deleted files.

    When the listing of *since* is not on this host, the times alone must tell: then new files count as changed,
    and deleted ones are not known. The first run of all has nothing to compare with.
    """
    if before is None:
        changed = [] if since is None else [name for name, at in files.items() if at >= since * 10**9]
        return {"new": [], "changed": sorted(changed), "deleted": []}
    return {
        "new": sorted(files.keys() - before.keys()),
        "changed": sorted(name for name in files.keys() & before.keys() if files[name] != before[name]),
        "deleted": sorted(before.keys() - files.keys()),
    }


def _printable(name: str) -> str:
    """A name may hold line breaks, control characters and bytes that are no text."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)
