-- Stops the queued and waiting runs of one set of open runs, some hundreds in a call.
--
-- KEYS  1 a HASH of open runs: job:{name}:active, :given, or what remove_job made of them   2 events
-- ARGV  1 JSON {prefix, job, removal, by, reason, now, row_ttl, events, cursor, count}
--       removal: the record of the removal that the set belongs to, absent for a job that stays   cursor: "0" at first
-- Returns JSON {cursor: the next one, "0" at the end, stopped: [run id…], others: [run id…], is_over}
--         others: those that are not stopped here: at work, or RQ jobs depend on them
--         is_over: nothing of that removal is left, and its record is gone
--
-- A stopped run leaves no RQ job, and its id stays in its queue: to find thousands of ids in a long list would keep
-- everybody waiting for minutes. Whoever pops an id without an RQ job drops it, RQ's own workers and tools do too.
--
-- One step, because a run that a worker starts between two looks must not be stopped as one that waits.
local item = cjson.decode(ARGV[1])
local call, prefix, job = redis.call, item.prefix, item.prefix .. ':job:' .. item.job
for i, kind in ipairs({'hash', 'stream'}) do
    local found = call('TYPE', KEYS[i]).ok
    if found ~= 'none' and found ~= kind then return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is not a ' .. kind) end
end

-- Its state, when it is not to be stopped here; else nil.
local function stop(id)
    local run, hash = prefix .. ':run:' .. id, 'rq:job:' .. id
    local row = redis.pcall('HMGET', run, 'state', 'lock')
    if row.err or (row[1] ~= 'queued' and row[1] ~= 'waiting') then return not row.err and row[1] or 'gone' end
    if call('EXISTS', hash .. ':dependents') == 1 then return 'depended' end
    call('HSET', run, 'state', 'done', 'outcome', 'stopped', 'reason', item.reason, 'decided_by', item.by,
        'ended_at', item.now)
    call('HDEL', run, 'token', 'lock')
    call('EXPIRE', run, item.row_ttl)
    call('DEL', hash)
    for _, set in ipairs({':active', ':given'}) do redis.pcall('HDEL', job .. set, id) end
    if row[1] == 'waiting' then
        redis.pcall('ZREM', prefix .. ':delayed', id)
        redis.pcall('ZREM', 'rq:scheduler:scheduled_jobs', id)
        redis.pcall('ZREM', prefix .. ':job:' .. (row[2] or item.job) .. ':waiting', id)
    end
    call('XADD', KEYS[2], 'MAXLEN', '~', item.events, '*', 'type', 'stopped', 'job', item.job, 'run', id)
    return nil
end

local stopped, others = {}, {}
local found = call('HSCAN', KEYS[1], item.cursor, 'COUNT', item.count)
for i = 1, #found[2], 2 do
    local id = found[2][i]
    local state = stop(id)
    if not state then stopped[#stopped + 1] = id
    elseif state == 'running' or state == 'depended' then others[#others + 1] = id end
    if item.removal and state ~= 'depended' then call('HDEL', KEYS[1], id) end
end
local is_over = false
if item.removal and found[1] == '0' then
    local left = prefix .. ':removed:' .. item.job
    is_over = call('EXISTS', left .. ':active', left .. ':given') == 0
    -- Only its own record: the job may have come back and been removed once more meanwhile.
    if is_over and redis.pcall('HGET', prefix .. ':removals', item.job) == item.removal then
        call('HDEL', prefix .. ':removals', item.job)
    end
end
return cjson.encode({cursor = found[1], stopped = #stopped > 0 and stopped or nil, others = #others > 0 and others or nil,
    is_over = is_over})
