--@ event
--@ open_set
--@ push
--@ rq
--@ types
-- Part of wake_waiter and settle_and_take. Queues the run that has waited longest for *lock*, at the tail of its queue;
-- *events* is how many events are kept. Returns 1 when a run was woken, else 0.
local function wake_waiter(prefix, lock, events)
    local call = redis.call
    local waiting = prefix .. ':job:' .. lock .. ':waiting'
    for _, id in ipairs(call('ZRANGE', waiting, 0, 99)) do
        local run = prefix .. ':run:' .. id
        local row = redis.pcall('HMGET', run, 'state', 'queue', 'job')  -- of a wrong type: an error, it waits no more
        local queue, active = row[2] or 'default', open_set(prefix, row[3], id)
        if row[1] ~= 'waiting' then
            call('ZREM', waiting, id)
        elseif not wrong_type({RQ .. 'queue:' .. queue, 'list', RQ .. 'queues', 'set', active, 'hash'}) then
            call('ZREM', waiting, id)
            call('HSET', run, 'state', 'queued')
            call('HDEL', run, 'reason', 'cause', 'lock')
            call('HSET', active, id, 'queued')
            push(prefix, queue, 'RPUSH', {id})
            try_event(prefix .. ':events', events, 'woken', row[3] or '', id)
            return 1
        end
    end
    if call('EXISTS', waiting) == 0 then call('SREM', prefix .. ':waiting', lock) end
    return 0
end
