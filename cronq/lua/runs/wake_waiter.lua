-- Wakes the run that has waited longest for a lock: it is queued again, at the tail of its queue.
--
-- KEYS  none (all are built from the lock: one Redis, no Cluster)
-- ARGV  1 prefix   2 lock   3 events to keep
-- Returns 1 when a run was woken, 0 when none waits. One that cannot be queued because of a key of a wrong type goes on
--         waiting, and the next has its turn.
--
-- One step, because a run between the waiting set and its queue would be in neither after a crash.
--@ wake_waiter

return wake_waiter(ARGV[1], ARGV[2], ARGV[3])
