--@ open_set
--@ rq
--@ types
-- Part of start, settle_and_take and undo_start. Undoes the start of a run whose work nobody has begun: it is queued
-- in the same attempt, and its id is in RQ's intermediate list, as if it had only been popped. *item* is {prefix, run,
-- job, queue, execution}. Returns true if that was done; false when the run is not at work under that execution (any
-- more), or a key is of a wrong type: then nothing is written.
local function undo_start(item)
    local call, id = redis.call, item.run
    local run, hash = item.prefix .. ':run:' .. id, RQ .. 'job:' .. id
    local row = redis.pcall('HMGET', run, 'state', 'execution')
    if row.err or row[1] ~= 'running' or row[2] ~= item.execution then return false end
    local active, running = open_set(item.prefix, item.job, id), item.prefix .. ':running'
    local popped, wip = RQ .. 'queue:' .. item.queue .. ':intermediate', RQ .. 'wip:' .. item.queue
    local executions = RQ .. 'executions:' .. id
    if wrong_type({active, 'hash', running, 'zset', hash, 'hash', popped, 'list', wip, 'zset', executions, 'zset'}) then
        return false
    end
    call('HSET', run, 'state', 'queued')
    call('HDEL', run, 'started_at', 'host', 'pid', 'worker', 'execution', 'max_crashes')
    call('HSET', active, id, 'queued')
    call('ZREM', running, id)
    call('ZREM', wip, id .. ':' .. item.execution)
    call('DEL', RQ .. 'execution:' .. id .. ':' .. item.execution)
    call('ZREM', executions, item.execution)
    if call('EXISTS', hash) == 1 then
        call('HSET', hash, 'status', 'queued', 'started_at', '', 'worker_name', '')
        call('HDEL', hash, 'last_heartbeat')
    end
    call('RPUSH', popped, id)
    return true
end
