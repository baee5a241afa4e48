--@ event
--@ rq
-- Part of claim: what the run of a new tick makes of the runs of earlier ticks, where only the newest is to run.
--
-- *from* and *new* are those of the part `ticks`; *new* also says whether it `replaces`: it is to run in place of those
-- that were begun, too.

-- A longer queue is not looked through, and of more runs the rest is left to the next tick.
local LONGEST_QUEUE, MOST_OVERTAKEN = 100000, 100

-- Returns true if *run* stands in its queue, where no worker has taken it yet.
local function stands_in_queue(from, run)
    for _, id in ipairs(from.pushed[run.queue] or {}) do
        if id == run.id then return true end
    end
    local at = redis.pcall('LPOS', RQ .. 'queue:' .. run.queue, run.id, 'MAXLEN', LONGEST_QUEUE)
    run.at = type(at) == 'number' and at or nil
    return run.at ~= nil
end

-- Returns true if the new run may take the place of *run*: it was never begun, or is to be replaced; no worker has
-- taken it, and no RQ job depends on it.
local function may_overtake(from, new, run)
    if run.attempt ~= '1' and not new.replaces then return false end
    if redis.call('EXISTS', RQ .. 'job:' .. run.id .. ':dependents') == 1 then return false end
    return run.state == 'waiting' or run.state == 'retrying' or (run.state == 'queued' and stands_in_queue(from, run))
end

-- Returns the open runs of earlier ticks: those that the new one overtakes, and those that it waits behind. It writes
-- nothing but what `standing` does to entries that are none.
local function earlier_runs(from, new)
    local rows, job = from.prefix .. ':run:', from.prefix .. ':job:' .. new.job
    local overtaken, before, cursor = {}, {}, '0'
    for _ = 1, 200 do
        local found = redis.call('HSCAN', job .. ':active', cursor, 'COUNT', 500)
        cursor = found[1]
        for i = 1, #found[2], 2 do
            local id = found[2][i]
            local row = redis.pcall('HMGET', rows .. id, 'state', 'tick', 'lock', 'queue', 'attempt', 'trigger')
            if row.err or not row[1] or row[1] == 'done' then
                redis.call('HDEL', job .. ':active', id)
            elseif row[2] and row[6] ~= 'backfill'
                    and (row[1] ~= 'waiting' or row[3] or redis.call('ZSCORE', job .. ':behind', id)) then
                local run = {id = id, state = row[1], lock = row[3]}
                run.queue, run.attempt = row[4] or 'default', row[5] or '1'
                local is_overtaken = #overtaken < MOST_OVERTAKEN and may_overtake(from, new, run)
                local into = is_overtaken and overtaken or before
                into[#into + 1] = run
            end
        end
        if cursor == '0' then break end
    end
    return overtaken, before
end

-- Gives the place of *run* in its queue to the new one, or takes it out. Else a job whose ticks come faster than its
-- queue is worked off would never run. Returns true if the new run stands there now.
local function leave_queue_to(from, new, run, is_queued)
    for i, id in ipairs(from.pushed[run.queue] or {}) do
        if id == run.id then
            if is_queued and run.queue == new.queue then
                from.pushed[run.queue][i] = new.id
                return true
            end
            table.remove(from.pushed[run.queue], i)
            return false
        end
    end
    local queue = RQ .. 'queue:' .. run.queue
    if is_queued and run.queue == new.queue then
        local reply = redis.pcall('LSET', queue, run.at, new.id)
        if not reply.err then return true end  -- a user of Redis who may not do that
    end
    redis.call('LREM', queue, 1, run.id)
    return false
end

-- Asks those of *before* that are at work to stop. Whoever has asked first is named.
local function ask_to_stop(from, new, before)
    for _, run in ipairs(before) do
        if run.state ~= 'queued' and run.state ~= 'waiting' then
            redis.pcall('SET', from.prefix .. ':stop:' .. run.id, from.by .. ' (replaced by the run ' .. new.id .. ')',
                'NX', 'EX', 86400)
        end
    end
end

-- Settles *overtaken* in favour of the new run, which *is_queued* or waits. Returns true if it stands in a queue now.
local function overtake(from, new, overtaken, is_queued)
    local job, has_place = from.prefix .. ':job:' .. new.job, false
    for _, run in ipairs(overtaken) do
        local row = from.prefix .. ':run:' .. run.id
        if run.state == 'queued' then
            has_place = leave_queue_to(from, new, run, is_queued and not has_place) or has_place
        end
        local is_new = run.attempt == '1'
        local outcome = is_new and 'coalesced' or 'stopped'
        redis.call('HSET', row, 'state', 'done', 'outcome', outcome, 'decided_by', from.by, 'ended_at', from.now,
            is_new and 'cause' or 'reason', (is_new and 'coalesced ' or 'replaced by the run ') .. new.id)
        local known, needless = redis.call('HMGET', row, 'trigger', 'queue'), {'lock', 'retry_at'}
        needless[#needless + 1] = is_new and 'reason' or 'cause'  -- that follows from the cause (runs/cause)
        if known[1] == 'schedule' then needless[#needless + 1] = 'trigger' end
        if known[2] == 'default' then needless[#needless + 1] = 'queue' end
        redis.call('HDEL', row, unpack(needless))
        if run.state == 'retrying' then redis.pcall('ZREM', from.prefix .. ':retries', run.id) end
        redis.call('EXPIRE', row, from.row_ttl)
        redis.call('HDEL', job .. ':active', run.id)
        redis.call('ZREM', job .. ':behind', run.id)
        if run.lock then redis.pcall('ZREM', from.prefix .. ':job:' .. run.lock .. ':waiting', run.id) end
        redis.call('DEL', RQ .. 'job:' .. run.id)
        event(from.prefix .. ':events', from.events, outcome, new.job, run.id)
    end
    return has_place
end
