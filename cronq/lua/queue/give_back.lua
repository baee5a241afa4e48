-- Unpops an id that this worker will not serve: returns it from RQ's intermediate list to its queue.
--
-- KEYS  1 rq:queue:{queue}:intermediate   2 rq:queue:{queue}
-- ARGV  1 id   2 LPUSH for the head, RPUSH for the tail
-- Returns 1 when it is queued again, 0 when nothing was written: it was not there any more (somebody else has returned
--         it, or this very call has, and its reply was lost), or the queue is of a wrong type (a beat unpops it later).
--
-- One step, because an id that is pushed without having been removed would be there twice.
--@ unpop

return unpop(KEYS[1], KEYS[2], ARGV[2], ARGV[1]) and 1 or 0
