-- Gives back the lock of a run whose work is over, and wakes the run that waits longest for it.
--
-- KEYS  none (all are built from the lock: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, execution, lock, events}   execution: under which the run holds the lock *lock*
-- Returns nil. A lock that is another's by now, or nobody's, is not touched.
--
-- One step, because between reading whose lock it is and freeing it the key could expire and be taken.
--@ give_back_lock
--@ wake_waiter

local item = cjson.decode(ARGV[1])
give_back_lock(item, item.lock, wake_waiter)
return nil
