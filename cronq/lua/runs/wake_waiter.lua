-- Wakes the run that has waited longest for a lock: it is queued again, at the tail of its queue.
--
-- KEYS  1 job:{lock}:waiting   2 waiting   3 events
-- ARGV  1 prefix   2 lock   3 events to keep
-- Returns 1 when a run was woken, 0 when none waits. One that cannot be queued because of a key of a wrong type goes on
--         waiting, and the next has its turn.
--
-- One step, because a run between the waiting set and its queue would be in neither after a crash.
--@ event
--@ open_set
--@ push
--@ rq
--@ types

local call, prefix = redis.call, ARGV[1]
for _, id in ipairs(call('ZRANGE', KEYS[1], 0, 99)) do
    local run = prefix .. ':run:' .. id
    local row = redis.pcall('HMGET', run, 'state', 'queue', 'job')  -- of a wrong type: an error, and it waits no more
    local queue, active = row[2] or 'default', open_set(prefix, row[3], id)
    if row[1] ~= 'waiting' then
        call('ZREM', KEYS[1], id)
    elseif not wrong_type({RQ .. 'queue:' .. queue, 'list', RQ .. 'queues', 'set', active, 'hash'}) then
        call('ZREM', KEYS[1], id)
        call('HSET', run, 'state', 'queued')
        call('HDEL', run, 'reason', 'cause', 'lock')
        call('HSET', active, id, 'queued')
        push(prefix, queue, 'RPUSH', {id})
        try_event(KEYS[3], ARGV[3], 'woken', row[3] or '', id)
        return 1
    end
end
if call('EXISTS', KEYS[1]) == 0 then call('SREM', KEYS[2], ARGV[2]) end
return 0
