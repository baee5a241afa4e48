-- Queues the run of a past tick, beside the schedule: as its next attempt when the ledger has the tick, else with a row
-- of its own.
--
-- KEYS  1 run:{id}   2 job:{name}   3 job:{name}:runs   4 job:{name}:active   5 job:{name}:template   6 rq:job:{id}
--       7 rq:queue:{queue}   8 rq:queues   9 events   10 run:{id} of the range that has the tick   11 run:{id} of what
--       of the range is before the tick   (10 and 11: KEYS[1] again when there is none)
-- ARGV  1 JSON {prefix, name, run, tick, queue, description, by, now, stamp, row_ttl, events, reason, force, once,
--               seen, range: {first, count, schedule, queue, after: {first, count}, before: {run, tick, first, count}},
--               was: {outcome, reason, decided_by, ended_at}}
--       force: also one that has succeeded   once: it may be started a single time
--       seen: the attempt that its own row was in when this was decided, absent: it has no row of its own
--       range: the row that has the tick among others, as it was seen, or absent   after, before: what the range is
--         without the tick, absent: nothing   was: what became of those ticks, absent without a range
-- Returns queued (also when an earlier call did it, whose reply was lost)
--       | open <state>  it is on its way already        done    it has succeeded
--       | begun         it may be started once, and was
--       | moved         the ledger is not as it was seen: look again
--       | changed       the job has another queue now: read it again
--       | gone          there is no such job (any more)
--       | broken <key>  a wrong type; of all but the first nothing was written
--
-- The mark stays: the tick may be one that no beat has decided yet, and then a beat finds that it has its row.
--
-- One step, because two that ask for a tick at the same time must get one run, and a range that loses a tick before
-- that has its own row would leave a gap.
--@ event
--@ keep_attempt
--@ push
--@ rq
--@ types

local item = cjson.decode(ARGV[1])
local call, run, hash = redis.call, KEYS[1], KEYS[6]
local _, wrong = wrong_type({run, 'hash', KEYS[2], 'hash', KEYS[3], 'zset', KEYS[4], 'hash', KEYS[5], 'hash',
    hash, 'hash', KEYS[7], 'list', KEYS[8], 'set', KEYS[9], 'stream', KEYS[10], 'hash', KEYS[11], 'hash'})
if wrong then return 'broken ' .. wrong end
if call('EXISTS', KEYS[2]) == 0 then return 'gone' end
local template = call('HMGET', KEYS[5], 'data', 'origin', 'timeout')
if template[2] ~= item.queue then return template[2] and 'changed' or 'broken ' .. KEYS[5] end
if not template[1] or not template[3] then return 'broken ' .. KEYS[5] end

local row = call('HMGET', run, 'job', 'tick', 'state', 'outcome', 'attempt', 'started_at', 'facts', 'queued_at',
    'decided_by', 'trigger')
local attempt = tonumber(row[5] or '') or 1
if row[1] then
    if row[1] ~= item.name or row[2] ~= item.tick then return 'broken ' .. run end
    if row[3] ~= 'done' then
        local is_ours = row[8] == item.now and row[9] == item.by and row[10] == 'backfill'
        return is_ours and 'queued' or 'open ' .. row[3]
    end
    if call('HGET', hash, 'status') == 'queued' then return 'open queued' end  -- requeued with RQ's tools just now
    if item.seen ~= attempt then return 'moved' end
    if row[4] == 'succeeded' and not item.force then return 'done' end
    if item.once and (row[6] or row[7]) then return 'begun' end
elseif item.seen then
    return 'moved'
end

-- Leaves the range without the tick: what is after it stays in its row, what is before gets one.
local function leave_range(range)
    local before, after = range.before, range.after
    if before then
        local left = KEYS[11]
        call('DEL', left)
        call('HSET', left, 'job', item.name, 'tick', before.tick, 'state', 'done', 'outcome', item.was.outcome,
            'reason', item.was.reason, 'decided_by', item.was.decided_by, 'ended_at', item.was.ended_at)
        if item.was.cause then call('HSET', left, 'cause', item.was.cause) end
        if range.queue ~= 'default' then call('HSET', left, 'queue', range.queue) end
        if before.count > 1 then
            call('HSET', left, 'first', before.first, 'count', before.count, 'schedule', range.schedule)
        end
        local life = call('PTTL', KEYS[10])
        call('EXPIRE', left, life > 0 and math.ceil(life / 1000) or item.row_ttl)
        call('ZADD', KEYS[3], before.tick, before.run)
    end
    if after and after.count > 1 then
        call('HSET', KEYS[10], 'first', after.first, 'count', after.count)
    else
        call('HDEL', KEYS[10], 'first', 'count', 'schedule')
    end
end

if item.range then
    local seen = call('HMGET', KEYS[10], 'first', 'count', 'schedule')
    local is_as_seen = seen[1] == item.range.first and seen[2] == item.range.count and seen[3] == item.range.schedule
    if not is_as_seen then return 'moved' end
    if item.range.before and call('EXISTS', KEYS[11]) == 1 then return 'moved' end
    leave_range(item.range)
    if not row[1] then
        call('HSET', run, 'outcome', item.was.outcome, 'reason', item.was.reason, 'decided_by', item.was.decided_by,
            'ended_at', item.was.ended_at)
        if item.was.cause then call('HSET', run, 'cause', item.was.cause) end
    end
end
if row[1] or item.range then
    keep_attempt(run, attempt)
    attempt = attempt + 1
    call('HDEL', run, 'started_at', 'host', 'pid', 'worker', 'execution', 'retry_at', 'put_back', 'lock')
end
call('HSET', run, 'job', item.name, 'tick', item.tick, 'state', 'queued', 'trigger', 'backfill', 'queue', item.queue,
    'queued_at', item.now, 'decided_by', item.by, 'reason', item.reason)
if attempt > 1 then call('HSET', run, 'attempt', attempt) end
call('ZADD', KEYS[3], item.tick, item.run)
call('HSET', KEYS[4], item.run, 'queued')
for _, name in ipairs({'finished', 'failed', 'canceled'}) do  -- where an earlier attempt left it
    redis.pcall('ZREM', RQ .. name .. ':' .. item.queue, item.run)
end
call('COPY', KEYS[5], hash, 'REPLACE')
call('HSET', hash, 'created_at', item.stamp, 'enqueued_at', item.stamp, 'description', item.description)
event(KEYS[9], item.events, 'queued', item.name, item.run, item.by)
push(item.prefix, item.queue, 'RPUSH', {item.run})
return 'queued'
