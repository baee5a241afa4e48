-- Stops the queued, waiting and retrying runs of one set of open runs, some in each call.
--
-- KEYS  1 a HASH of open runs: job:{name}:active, :given, or what jobs/remove made of them   2 events
-- ARGV  1 JSON {prefix, job, removal, by, reason, now, row_ttl, events, cursor, count}
--       removal: the record of the removal that the set belongs to, absent for a job that stays
--       cursor: "0" at first   count: runs to be stopped in this call
-- Returns JSON {cursor, stopped: [run id…], others: [run id…], is_over}
--         cursor: the next one, "0" at the end, "again" for a part of a small set
--         others: those that are not stopped here: at work, or RQ jobs depend on them
--         is_over: nothing of that removal is left, and its record is gone
--
-- A stopped run leaves no RQ job, and its id stays in its queue: to find thousands of ids in a long list would keep
-- everybody waiting for minutes. Whoever pops an id without an RQ job drops it, RQ's own workers and tools do too.
--
-- One step, because a run that a worker starts between two looks must not be stopped as one that waits.
--@ event
--@ rq
--@ types

local item = cjson.decode(ARGV[1])
local call, prefix, job = redis.call, item.prefix, item.prefix .. ':job:' .. item.job
local wrong = wrong_type({KEYS[1], 'hash', KEYS[2], 'stream'})
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end

local stopped, others = {}, {}  -- ids
local entries, bodies, held = {}, {}, {}  -- to be removed at the end, all at once

-- Returns true if it was stopped; else false, and its state or what else is the matter with it.
local function stop(id)
    local run, hash = prefix .. ':run:' .. id, RQ .. 'job:' .. id
    local row = redis.pcall('HMGET', run, 'state', 'lock')
    if row.err then return false, 'damaged' end
    if row[1] ~= 'queued' and row[1] ~= 'waiting' and row[1] ~= 'retrying' then return false, row[1] end
    if call('EXISTS', hash .. ':dependents') == 1 then return false, 'depended' end
    call('HSET', run, 'state', 'done', 'outcome', 'stopped', 'reason', item.reason, 'decided_by', item.by,
        'ended_at', item.now)
    call('EXPIRE', run, item.row_ttl)
    event(KEYS[2], item.events, 'stopped', item.job, id, item.by)
    bodies[#bodies + 1] = hash
    if row[1] ~= 'queued' then held[#held + 1] = id end
    if row[2] then redis.pcall('ZREM', prefix .. ':job:' .. row[2] .. ':waiting', id) end
    return true
end

local found = call('HSCAN', KEYS[1], item.cursor, 'COUNT', item.count)
local cursor = found[1]
for i = 1, #found[2], 2 do
    local id = found[2][i]
    local is_stopped, state = stop(id)
    if is_stopped then stopped[#stopped + 1] = id
    elseif state == 'running' or state == 'depended' then others[#others + 1] = id end
    if is_stopped or (item.removal and state ~= 'depended') then entries[#entries + 1] = id end
    if #stopped >= item.count and i + 1 < #found[2] then  -- Redis gives a small hash whole, whatever it is asked for
        cursor = item.cursor == '0' and 'again' or item.cursor
        break
    end
end
if #entries > 0 then call('HDEL', KEYS[1], unpack(entries)) end
if #bodies > 0 then call('DEL', unpack(bodies)) end
if #held > 0 then
    redis.pcall('ZREM', prefix .. ':delayed', unpack(held))
    redis.pcall('ZREM', prefix .. ':retries', unpack(held))
    redis.pcall('ZREM', 'rq:scheduler:scheduled_jobs', unpack(held))
    redis.pcall('ZREM', job .. ':behind', unpack(held))
    for _, set in ipairs({':active', ':given'}) do redis.pcall('HDEL', job .. set, unpack(held)) end
end
local is_over = false
if item.removal and cursor == '0' then
    local left = prefix .. ':removed:' .. item.job
    is_over = call('EXISTS', left .. ':active', left .. ':given') == 0
    -- Only its own record: the job may have come back and been removed once more meanwhile.
    if is_over and redis.pcall('HGET', prefix .. ':removals', item.job) == item.removal then
        call('HDEL', prefix .. ':removals', item.job)
    end
end
return cjson.encode({cursor = cursor, stopped = #stopped > 0 and stopped or nil, others = #others > 0 and others or nil,
    is_over = is_over})
