--@ event
--@ push
--@ rq
--@ standing
--@ types
-- Part of settle, stop_queued, take_turns and gates: runs that wait behind an earlier run of their job. They stand in
-- `job:{name}:behind` by their ticks, and the job in `behind`; `active` has them as waiting.

-- Queues the waiting run *id* of the job *name* in *queue*. Whoever calls it has looked at the keys.
local function queue_waiting(item, name, id, queue)
    local call, row, hash = redis.call, item.prefix .. ':run:' .. id, RQ .. 'job:' .. id
    call('HSET', row, 'state', 'queued', 'queued_at', item.now)
    call('HDEL', row, 'reason', 'cause')
    call('HSET', item.prefix .. ':job:' .. name .. ':active', id, 'queued')
    if call('EXISTS', hash) == 1 then  -- without it the worker settles the run
        call('HSET', hash, 'status', 'queued', 'enqueued_at', item.stamp)
    end
    push(item.prefix, queue, 'RPUSH', {id})
    try_event(item.prefix .. ':events', item.events, 'woken', name, id)
end

-- Queues the one that has waited longest, unless an earlier run of the job is open. Returns its id, or nil. With a key
-- of a wrong type nothing is written, and a beat tries again.
local function next_turn(item, name)
    local call, job, rows = redis.call, item.prefix .. ':job:' .. name, item.prefix .. ':run:'
    local behind, jobs, active = job .. ':behind', item.prefix .. ':behind', job .. ':active'
    if wrong_type({behind, 'zset', jobs, 'set', active, 'hash', job .. ':runs', 'zset', RQ .. 'queues', 'set'}) then
        return nil
    end
    for _ = 1, 100 do  -- what processes that know no turns have settled or begun is dropped
        local id = call('ZRANGE', behind, 0, 0)[1]
        if not id then
            call('SREM', jobs, name)
            return nil
        end
        local row, hash = redis.pcall('HMGET', rows .. id, 'state', 'queue', 'lock'), RQ .. 'job:' .. id
        if not row.err and row[1] == 'waiting' and not row[3] then
            local queue = row[2] or 'default'
            if wrong_type({RQ .. 'queue:' .. queue, 'list', hash, 'hash'}) then return nil end
            if standing(rows, job, call('HLEN', active), true) then return nil end
            if call('ZREM', behind, id) and call('EXISTS', behind) == 0 then call('SREM', jobs, name) end
            queue_waiting(item, name, id, queue)
            return id
        end
        call('ZREM', behind, id)
    end
    return nil
end
