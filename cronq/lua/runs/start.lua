-- Begins a run for a worker: from queued to running, in the ledger and in RQ's own records.
--
-- KEYS  none (all are built from the run: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, run, job, queue, worker, host, pid, now, stamp, execution, lease, events, stock, once,
--               max_crashes, seen}
--       stamp: now as RQ writes times   execution: id of RQ's execution record   lease: its life in seconds
--       stock: a stock RQ worker runs it: RQ's records are its own business, and nobody will renew the run, so
--       it counts as heard of until now + lease
--       once: it may be started a single time   max_crashes: so many vanished workers end it; absent: the first one
--       seen: when it counts as heard of; absent: this moment by the server's own clock
-- Returns JSON [code, attempt]
--       started    attempt is 1, or one more when a person requeued a settled run
--       unknown    the ledger has no such run
--       settled    it has an outcome already and nobody requeued it: a stray id
--       retrying   its next attempt is not due, and nobody requeued it: a stray id
--       running    somebody is working on it: a stray id. Not so for the execution that has started it: a start
--                  that is sent again after its reply was lost is told `started` once more
--       begun      it may be started once, and was: nothing was written
--       removed    its job was removed since it was queued, even if one of that name came back: nothing was written
--       broken     a key it needs has a wrong type: nothing was written (detail in the second place)
--
-- One step, because the id leaves RQ's intermediate list and enters `running` here: in both it would be run
-- twice after a crash, in neither it would be lost.
--@ event
--@ keep_attempt
--@ open_set
--@ rq
--@ types

local item = cjson.decode(ARGV[1])
local call = redis.call
local run = item.prefix .. ':run:' .. item.run
local active = open_set(item.prefix, item.job, item.run)
local running = item.prefix .. ':running'
local hash = RQ .. 'job:' .. item.run
local popped = RQ .. 'queue:' .. item.queue .. ':intermediate'
local events = item.prefix .. ':events'
local wip = RQ .. 'wip:' .. item.queue
local execution, executions = RQ .. 'execution:' .. item.run .. ':' .. item.execution, RQ .. 'executions:' .. item.run
local wrong = wrong_type({run, 'hash', active, 'hash', running, 'zset', hash, 'hash', popped, 'list', events, 'stream',
    wip, 'zset', execution, 'hash', executions, 'zset'})
if wrong then return cjson.encode({'broken', wrong}) end
local row = call('HMGET', run, 'state', 'attempt', 'job', 'execution', 'started_at', 'facts')
local status = call('HGET', hash, 'status')
if row[3] ~= item.job then
    call('LREM', popped, 1, item.run)
    return cjson.encode({'unknown', 0})
end
local attempt = tonumber(row[2] or '') or 1
local set = string.match(active, '[^:]+$')
if redis.pcall('HEXISTS', item.prefix .. ':removed:' .. item.job .. ':' .. set, item.run) == 1 then
    return cjson.encode({'removed', attempt})
end
if item.once and (row[5] or row[6]) and row[1] ~= 'running' then return cjson.encode({'begun', attempt}) end
if row[1] == 'done' then
    if status ~= 'queued' and not item.stock then
        call('LREM', popped, 1, item.run)
        return cjson.encode({'settled', attempt})
    end
    keep_attempt(run, attempt)
    attempt = attempt + 1
elseif row[1] == 'retrying' then
    if status ~= 'queued' and not item.stock then
        call('LREM', popped, 1, item.run)
        return cjson.encode({'retrying', attempt})
    end
    redis.pcall('ZREM', item.prefix .. ':retries', item.run)
    call('HDEL', run, 'retry_at')
elseif row[1] == 'running' then
    if row[4] == item.execution then return cjson.encode({'started', attempt}) end
    call('LREM', popped, 1, item.run)
    return cjson.encode({'running', attempt})
end
call('HSET', run, 'state', 'running', 'attempt', attempt, 'started_at', item.now, 'host', item.host,
    'pid', item.pid, 'worker', item.worker, 'execution', item.execution)
if item.max_crashes then call('HSET', run, 'max_crashes', item.max_crashes) else call('HDEL', run, 'max_crashes') end
call('PERSIST', run)  -- its row may not end before it does; settling gives it a life again
call('DEL', item.prefix .. ':stop:' .. item.run)  -- a wish that an earlier attempt end is not for this one
call('HSET', active, item.run, 'running')
local seen = item.stock and (tonumber(item.now) + item.lease) or item.seen
if not seen then  -- by the server's own clock: see runs/heartbeat.lua
    local time = call('TIME')
    seen = time[1] .. '.' .. string.format('%06d', time[2])
end
call('ZADD', running, seen, item.run)
event(events, item.events, 'started', item.job, item.run)
if item.stock then return cjson.encode({'started', attempt}) end
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
return cjson.encode({'started', attempt})
