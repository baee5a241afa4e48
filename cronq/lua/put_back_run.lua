-- Returns an id that a worker popped and never started to the head of its queue.
--
-- KEYS  1 rq:queue:{queue}:intermediate   2 rq:queue:{queue}   3 run:{id}   4 rq:job:{id}
-- ARGV  1 run id
-- Returns 1 when it was put back, 0 when it is not a queued run of ours (nor a settled one that a person has queued
--         again with RQ's tools, nor anybody's queued RQ job) or was not there any more.
--
-- One step, because two beats may see the same id: only the one that removes it may push it.
local state = redis.pcall('HGET', KEYS[3], 'state')  -- an error, as a table, when it is of a wrong type
local status = redis.pcall('HGET', KEYS[4], 'status')
if not status or type(status) == 'table' then return 0 end
if state ~= 'queued' and not ((not state or state == 'done') and status == 'queued') then return 0 end
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[1])
return 1
