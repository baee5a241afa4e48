--@ event
--@ keep_attempt
--@ lock_keys
--@ open_set
--@ rq
--@ take_lock
--@ types
--@ undo_start
-- Part of start. Begins the run that *item* tells of; runs/start explains both it and what is returned, as a table.

-- Looks whether the run of *item* may have its lock. Returns nil, and what takes it and returns its fencing token, as
-- text; else the answer of start.
local function lock_for(item)
    local lock, fence = lock_keys(item.prefix, item.lock)
    local wrong, owner, last, whose, busy_with = look_at_lock(lock, fence)
    if wrong then return {'broken_lock', wrong} end
    if owner and owner ~= item.execution then return {'busy', owner == whose and busy_with or ''} end
    local holder = {id = item.execution, host = item.host, pid = item.pid, run = item.run, life = item.fence_life}
    return nil, function()
        return string.format('%.0f', take_lock(lock, fence, item.lock_ttl_ms, holder, owner, last, whose))
    end
end

local function start_run(item)
    local call = redis.call
    local run = item.prefix .. ':run:' .. item.run
    local active = open_set(item.prefix, item.job, item.run)
    local running = item.prefix .. ':running'
    local hash = RQ .. 'job:' .. item.run
    local popped = RQ .. 'queue:' .. item.queue .. ':intermediate'
    local events = item.prefix .. ':events'
    local wip = RQ .. 'wip:' .. item.queue
    local execution = RQ .. 'execution:' .. item.run .. ':' .. item.execution
    local executions = RQ .. 'executions:' .. item.run
    local wrong = wrong_type({run, 'hash', active, 'hash', running, 'zset', hash, 'hash', popped, 'list',
        events, 'stream', wip, 'zset', execution, 'hash', executions, 'zset'})
    if wrong then return {'broken', wrong} end
    local row = call('HMGET', run, 'state', 'attempt', 'job', 'execution', 'started_at', 'facts')
    local status = call('HGET', hash, 'status')
    if row[3] ~= item.job then
        call('LREM', popped, 1, item.run)
        return {'unknown', 0}
    end
    local attempt = tonumber(row[2] or '') or 1
    local set = string.match(active, '[^:]+$')
    if redis.pcall('HEXISTS', item.prefix .. ':removed:' .. item.job .. ':' .. set, item.run) == 1 then
        return {'removed', attempt}
    end
    if item.once and (row[5] or row[6]) and row[1] ~= 'running' then return {'begun', attempt} end
    local refused, take = nil, function() return nil end
    if item.lock then refused, take = lock_for(item) end
    if row[1] == 'running' and row[4] == item.execution then
        if refused then undo_start(item) end  -- its lock has ended while the answer was under way
        return refused or {'started', attempt, take()}
    elseif row[1] == 'done' or row[1] == 'retrying' then
        if status ~= 'queued' and not item.stock then  -- nobody has requeued it
            call('LREM', popped, 1, item.run)
            return {row[1] == 'done' and 'settled' or 'retrying', attempt}
        end
        if refused then return refused end
        if row[1] == 'done' then
            keep_attempt(run, attempt)
            attempt = attempt + 1
        else
            redis.pcall('ZREM', item.prefix .. ':retries', item.run)
            call('HDEL', run, 'retry_at')
        end
    elseif row[1] == 'running' then
        call('LREM', popped, 1, item.run)
        return {'running', attempt}
    end
    if refused then return refused end
    local token = take()
    call('HSET', run, 'state', 'running', 'attempt', attempt, 'started_at', item.now, 'host', item.host,
        'pid', item.pid, 'worker', item.worker, 'execution', item.execution)
    if item.max_crashes then
        call('HSET', run, 'max_crashes', item.max_crashes)
    else
        call('HDEL', run, 'max_crashes')
    end
    call('PERSIST', run)  -- its row may not end before it does; settling gives it a life again
    call('DEL', item.prefix .. ':stop:' .. item.run)  -- a wish that an earlier attempt end is not for this one
    call('HSET', active, item.run, 'running')
    local seen = item.stock and (tonumber(item.now) + item.lease) or item.seen
    if not seen then  -- by the server's own clock: see runs/renew.lua
        local time = call('TIME')
        seen = time[1] .. '.' .. string.format('%06d', time[2])
    end
    call('ZADD', running, seen, item.run)
    event(events, item.events, 'started', item.job, item.run)
    if item.stock then return {'started', attempt, token} end
    local record = RQ .. 'worker:' .. item.worker
    if call('EXISTS', record) == 1 then redis.pcall('HSET', record, 'state', 'busy', 'current_job', item.run) end
    call('LREM', popped, 1, item.run)
    call('HSET', hash, 'status', 'started', 'started_at', item.stamp, 'last_heartbeat', item.stamp,
        'worker_name', item.worker)
    local ends = tonumber(item.now) + item.lease
    call('HSET', execution, 'id', item.execution, 'created_at', item.now, 'last_heartbeat', item.now,
        'worker_name', item.worker)
    call('EXPIRE', execution, item.lease)
    call('ZADD', executions, math.floor(ends) + 60, item.execution)
    call('EXPIRE', executions, item.lease + 60)
    call('ZADD', wip, math.floor(ends), item.run .. ':' .. item.execution)
    return {'started', attempt, token}
end
