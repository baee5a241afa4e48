-- Undoes the start of a run whose work nobody has begun: it is as if its id had only been popped.
--
-- KEYS  none (all are built from the run: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, run, job, queue, execution, worker, lock, host, events}   lock: that it holds; or absent
-- Returns 1 when it is queued again, with its id in RQ's intermediate list; 0 when it is not at work under that
--         execution any more, or a key is of a wrong type: then nothing was written
--
-- One step, because a run that is both running and queued would be run twice, and one that is neither is lost.
--@ give_back_lock
--@ undo_start
--@ wake_waiter
--@ worker_record

local item = cjson.decode(ARGV[1])
if not undo_start(item) then return 0 end
if item.lock then give_back_lock(item, item.lock, wake_waiter) end
local record = read_record(item.worker)
if record.current == item.run then
    set_current(record, nil)
    write_record(record)
end
return 1
