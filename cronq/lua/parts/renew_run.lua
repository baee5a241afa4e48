--@ event
--@ rq
-- Part of renew. Notes that the run of *item* is alive; runs/renew explains both it and what is returned.
local function renew_run(item)
    local call, try = redis.call, redis.pcall
    local run, hash = item.prefix .. ':run:' .. item.run, RQ .. 'job:' .. item.run
    local attempt = tostring(item.attempt)
    local row = call('HMGET', run, 'state', 'attempt', 'outcome', 'execution', 'slow')
    if not row[1] then return '' end
    if row[1] == 'done' and row[2] == attempt and row[3] == 'lost' and row[4] == item.execution then return '' end
    if row[1] == 'queued' and (row[2] or '1') == attempt and not row[4] then return 'forgotten' end
    if row[1] ~= 'running' or row[2] ~= attempt then return 'settled' end
    if row[4] and row[4] ~= item.execution then return 'settled' end  -- Redis had forgotten it, and another began it
    call('ZADD', item.prefix .. ':running', item.seen, item.run)
    -- RQ's own records follow, as far as they can: should one be of a wrong type, the run goes on, and hears who asks
    -- it to stop.
    local ends, executions = math.floor(tonumber(item.now) + item.lease), RQ .. 'executions:' .. item.run
    local execution = RQ .. 'execution:' .. item.run .. ':' .. item.execution
    try('ZADD', RQ .. 'wip:' .. item.queue, 'XX', ends, item.run .. ':' .. item.execution)
    if call('EXISTS', execution) == 1 then
        try('HSET', execution, 'last_heartbeat', item.now)
        call('EXPIRE', execution, item.lease)
        try('ZADD', executions, 'XX', ends + 60, item.execution)
        call('EXPIRE', executions, item.lease + 60)
    end
    if call('EXISTS', hash) == 1 then try('HSET', hash, 'last_heartbeat', item.stamp) end
    if item.slow and row[5] ~= attempt then
        call('HSET', run, 'slow', attempt)
        try('HSET', item.prefix .. ':job:' .. item.job .. ':state', 'slow', item.run)
        try_event(item.prefix .. ':events', item.events, 'slow', item.job, item.run)
    end
    local by = try('GET', item.prefix .. ':stop:' .. item.run)
    return type(by) == 'string' and ('stop ' .. by) or ''
end
