-- Takes a lock from whoever holds it, because a person says so.
--
-- KEYS  1 lock (STRING)   2 fence (HASH)   3 events (STREAM)
-- ARGV  1 JSON {prefix, lock, events, by, note}   events: so many are kept
-- Returns [released, id of the run that held it | ""] | [free]   nobody holds it: nothing was written
--       | [broken, key, type that it should have]   nothing was written
-- Who waits for it is woken as by any release. The holder finds it gone with its next renewal, and stops.
--
-- One step, because the lock that is taken away must be that of the holder who is recorded beside it.
--@ event
--@ give_back_lock
--@ protected
--@ types
--@ wake_waiter

local item, call = cjson.decode(ARGV[1]), redis.call
for i, kind in ipairs({'string', 'hash', 'stream'}) do
    if not fits(KEYS[i], kind) then return {'broken', KEYS[i], kind} end
end
item.execution = call('GET', KEYS[1])
if not item.execution then return {'free'} end
local known = call('HMGET', KEYS[2], 'id', 'run_id')
local run = known[1] == item.execution and known[2] or ''
local time = call('TIME')
call('HSET', KEYS[2], 'released_by', item.by, 'released_at', time[1] .. '.' .. string.format('%06d', time[2]),
    'released_run', run, 'released_note', item.note)
event(KEYS[3], item.events, 'lock_released', item.lock, run ~= '' and run or nil, item.by, 'lock')
protected(give_back_lock, item, item.lock, wake_waiter)  -- a damaged list of who waits keeps nobody from freeing it
return {'released', run}
