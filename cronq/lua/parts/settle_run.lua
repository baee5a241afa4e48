--@ event
--@ lean_row
--@ rarely
--@ rq
--@ settle_in_rq
--@ try
-- Part of settle and settle_and_take: ends attempts of runs. runs/settle says what *item* is.

local STATE_OF_JOB = {'streak', 'success_tick', 'success_given', 'awaits', 'slow', 'first_run'}
local EXECUTED = {succeeded = 1, failed = 1, timed_out = 1, stopped = 1, lost = 1}

-- Takes a run out of those that are open. The release before knew one set alone, and may have one by hand there, too.
local function leave_open(item, job, tick)
    if not tick then try('HDEL', job .. ':given', item.run) end
    if try('HDEL', job .. ':active', item.run) ~= 1 and tick then try('HDEL', job .. ':given', item.run) end
end

-- Takes a run that waits out of those behind an earlier run of the job. The one after it waits for what it waited for.
local function leave_turn(item, job, waited_for, cause)
    local call, behind = redis.call, job .. ':behind'
    local tick = try('ZSCORE', behind, item.run)
    if not tick then return end
    call('ZREM', behind, item.run)
    local after = call('ZRANGEBYSCORE', behind, '(' .. tick, '+inf', 'LIMIT', 0, 1)[1]
    local key = item.prefix .. ':run:' .. (after or '')
    local known = after and redis.pcall('HMGET', key, 'cause', 'reason') or {}
    if not waited_for or known.err then return end
    local words = not known[1] and known[2] or ''  -- a release that knew no causes wrote it
    local names_it = string.find(words, 'waits for the run ' .. item.run, 1, true)
    if known[1] ~= 'waits_for_run ' .. item.run and not names_it then return end
    call('HSET', key, 'reason', waited_for)
    if cause then call('HSET', key, 'cause', cause) else call('HDEL', key, 'cause') end
end

-- The next run of the job has its turn, and runs of its children go that waited for this one. Whatever keeps them from
-- being queued, this one is settled; a beat tries again.
local function pass_turn(item, job)
    if redis.call('EXISTS', job .. ':behind', job .. ':gated') == 0 then return end
    pcall(rare().next_turn, item, item.job)
    if item.outcome == 'succeeded' then pcall(rare().open_gates, item, item.job) end
end

-- Returns why a run that is to have another attempt cannot have one, in words, or nil.
local function why_final(item, row, job, hash, is_back)
    if is_back then return 'it was called lost meanwhile' end
    local by = redis.pcall('GET', item.prefix .. ':stop:' .. item.run)
    if type(by) == 'string' then
        return string.match(by, '%((replaced by the run [^ ()]+)%)$') or by .. ' asked it to stop'
    end
    local left = item.prefix .. ':removed:' .. item.job .. (row.tick and ':active' or ':given')
    if redis.call('EXISTS', job) == 0 or redis.pcall('HEXISTS', left, item.run) == 1 then
        return 'its job was removed'
    end
    if redis.call('TYPE', hash).ok ~= 'hash' then return 'its RQ job is gone' end
    return nil
end

-- The attempt is over and kept, the run is not. A list that cannot be written is written again by beats.
local function retry_run(item, row, run, hash)
    local call, queue = redis.call, RQ .. 'queue:' .. item.queue
    local attempt = tonumber(row.attempt or '') or 1
    if #(item.fields or {}) > 0 then call('HSET', run, unpack(item.fields)) end
    call('HSET', run, 'reason', item.reason, 'decided_by', item.by, 'ended_at', item.now)
    if not item.retry.snooze then call('HSET', run, 'outcome', item.outcome) end
    rare().keep_attempt(run, attempt)
    call('HDEL', run, 'started_at', 'host', 'pid', 'worker', 'execution')
    call('HSET', run, 'state', 'retrying', 'attempt', attempt + 1, 'reason', item.retry.reason, 'decided_by', item.by,
        'retry_at', item.retry.due, 'retried', item.retry.retried, 'put_back', item.execution or '')
    if row.crashes then call('HSET', run, 'crashes', row.crashes) end
    local since = row.snoozed_since or item.retry.snooze and item.now
    if since then call('HSET', run, 'snoozed_since', since) end
    try('HSET', rare().open_set(item.prefix, item.job, item.run), item.run, 'retrying')
    try('ZREM', item.prefix .. ':running', item.run)
    try('ZADD', item.prefix .. ':retries', item.retry.due, item.run)
    try_all(event, item.prefix .. ':events', item.events, 'retrying', item.job, item.run)
    if item.stock then return 'retrying' end
    if row.state == 'queued' and (try('LLEN', queue) or 0) <= 100000 then try('LREM', queue, 0, item.run) end
    if item.execution then
        try('DEL', RQ .. 'execution:' .. item.run .. ':' .. item.execution, RQ .. 'executions:' .. item.run)
    end
    leave_work(item)
    call('HSET', hash, 'status', 'scheduled', 'ended_at', item.stamp, 'worker_name', '')
    call('PERSIST', hash)
    return 'retrying'
end

-- What the state of a job says from then on. *known* is what STATE_OF_JOB names of it.
local function note_end(item, row, job, began, known, is_back)
    local state = job .. ':state'
    local streak, tick = tonumber(known[1] or '0') or 0, tonumber(row.tick or '')
    local fields = {'last_run', item.run, 'last_outcome', item.outcome, 'last_ended', item.now, 'last_tick',
        row.tick or ''}
    local function note(name, value)
        fields[#fields + 1] = name
        fields[#fields + 1] = value
    end
    if began and not known[6] then note('first_run', began) end
    if item.outcome == 'succeeded' then
        note('streak', math.max(streak, 0) + 1)
        if tick and tick > (tonumber(known[2] or '') or 0) then note('success_tick', tick) end
        local given = tonumber(known[3] or '')
        if not tick and not (given and given >= tonumber(began or item.now)) then  -- the one that began last, in
            note('success_given', began or item.now)                               -- whatever order they end
        end
    end
    try('HSET', state, unpack(fields))
    if item.outcome == 'succeeded' then
        if tick and known[4] then rare().let_go_on(item.prefix, job, item.job, item.run, item.now) end
    elseif item.outcome ~= 'stopped' and not is_back then  -- else that it was lost has counted already
        rare().count_failure(job, state, math.min(streak, 0) - 1, item)
    end
end

-- Returns the answer when the run of *item*, of which *row* is known, is not to be settled by this call; and true when
-- an earlier one has settled it, whose reply was lost. Else nil; and true when a guardian that was cut off alone is
-- back: it knows how the run ended, the beat only that it was not heard of.
local function why_stale(item, row, hash)
    local is_back = row.state == 'done' and row.outcome == 'lost' and item.outcome ~= 'lost' and item.execution
        and row.execution == item.execution and redis.pcall('HGET', hash, 'status') ~= 'queued'
    local is_forgotten = row.state == 'queued' and item.expect == 'running' and item.execution and not row.execution
    -- By this very call, whose reply was lost: somebody who stops a run is not to be told that there was nothing to
    -- stop.
    if item.expect ~= 'running' and row.state == 'done' and row.ended_at == item.now and row.decided_by == item.by
            and row.outcome == item.outcome then
        return redis.call('EXISTS', hash .. ':dependents') == 1 and 'depended' or 'settled', true
    end
    if item.retry and item.execution and row.put_back == item.execution then return 'retrying', true end
    if row.state ~= item.expect and not is_back and not is_forgotten then return 'stale' end
    local is_of_another = item.execution and row.execution and row.execution ~= item.execution
    if row.state == 'running' and is_of_another then return 'stale' end
    if item.attempt and (row.attempt or '1') ~= tostring(item.attempt) then return 'stale' end
    if item.unseen_since then
        local seen = try('ZSCORE', item.prefix .. ':running', item.run)
        if seen and tonumber(seen) > tonumber(item.unseen_since) then return 'stale' end
    end
    if item.rq_status then
        local status = redis.pcall('HGET', hash, 'status')
        if (status or '') ~= item.rq_status then return 'stale' end
    end
    return nil, is_back
end

-- Gives the run its outcome in its row, and takes it out of every list of open ones. Returns the row as it was.
local function write_outcome(item, row, run, job, hash)
    local call = redis.call
    local was = {state = row.state, reason = row.reason, cause = row.cause, needs = row.needs, lock = row.lock,
        began = row.started_at}
    row.lock, row.retry_at, row.needs, row.in_turn, row.cause = nil, nil, nil, nil, nil
    for i = 1, #(item.fields or {}), 2 do row[item.fields[i]] = item.fields[i + 1] end
    row.state, row.outcome, row.reason, row.decided_by = 'done', item.outcome, item.reason, item.by
    row.ended_at = item.now
    lean_row(row)
    local flat = {}
    for name, value in pairs(row) do
        flat[#flat + 1] = name
        flat[#flat + 1] = value
    end
    local stop = item.prefix .. ':stop:' .. item.run
    -- Written anew, for a hash that once held a long value never becomes small again. With it end a wish that it stop,
    -- and RQ's records of its execution.
    if item.execution and not item.stock then
        call('DEL', run, stop, RQ .. 'execution:' .. item.run .. ':' .. item.execution, RQ .. 'executions:' .. item.run)
    else
        call('DEL', run, stop)
    end
    call('HSET', run, unpack(flat))
    call('EXPIRE', run, item.row_ttl)
    leave_open(item, job, row.tick)
    try('ZREM', item.prefix .. ':running', item.run)
    if was.state ~= 'running' or was.lock then  -- the lock it may wait for; it need not be named after its job
        try('ZREM', item.prefix .. ':job:' .. (was.lock or item.job) .. ':waiting', item.run)
    end
    if was.state == 'retrying' then try('ZREM', item.prefix .. ':retries', item.run) end
    if item.expect == 'waiting' then  -- perhaps for its time
        try('ZREM', item.prefix .. ':delayed', item.run)
        try('ZREM', 'rq:scheduler:scheduled_jobs', item.run)
        leave_turn(item, job, was.reason, was.cause)
        if was.needs then rare().leave_gates(item.prefix, item.run, was.needs) end
    end
    return was
end

-- Ends the attempt of a run that *item* tells of. Returns what runs/settle does; and true as second for a call that
-- came before, and whose reply was lost.
local function settle_run(item)
    local call = redis.call
    local run, job = item.prefix .. ':run:' .. item.run, item.prefix .. ':job:' .. item.job
    local hash, row, flat = RQ .. 'job:' .. item.run, {}, try('HGETALL', run) or {}
    for i = 1, #flat, 2 do row[flat[i]] = flat[i + 1] end
    if not row.state then
        leave_open(item, job, row.tick)
        try('ZREM', item.prefix .. ':running', item.run)
        if not item.stock then
            if item.execution then
                try('DEL', RQ .. 'execution:' .. item.run .. ':' .. item.execution, RQ .. 'executions:' .. item.run)
            end
            settle_in_rq(item, hash, item.expect ~= 'running')
        end
        pass_turn(item, job)
        return 'unknown'
    end
    local answer, is_back = why_stale(item, row, hash)
    if answer then return answer, is_back end
    local is_usual = row.state == 'running' and item.execution and row.execution == item.execution
        and (row.attempt or '1') == '1' and not row.attempts and row.trigger ~= 'requeue'
    local known, of_job = redis.pcall('HMGET', job .. ':state', unpack(STATE_OF_JOB)), nil
    if row.slow and known[5] == item.run then try('HDEL', job .. ':state', 'slow') end
    row.slow = nil
    if item.retry then
        local why = why_final(item, row, job, hash, is_back)
        if not why then return retry_run(item, row, run, hash) end
        item.reason = item.reason .. '; not retried: ' .. why
    end

    local was = write_outcome(item, row, run, job, hash)
    of_job = redis.pcall('HMGET', job, 'keep', 'version')
    local is_known = of_job.err or of_job[1] or of_job[2] or call('EXISTS', job) == 1
    local counts = EXECUTED[item.outcome] and is_known and (item.expect == 'running' or was.state == 'retrying')
    if counts and known.err then known = {} end
    if counts then note_end(item, row, job, was.began, known, is_back) end
    local by = item.outcome == 'stopped' and item.by or nil
    try_all(event, item.prefix .. ':events', item.events, item.outcome, item.job, item.run, by)
    -- Many that were made at once end when no other is made any more.
    local index = job .. (row.tick and ':runs' or ':manual')
    local keep = not of_job.err and tonumber(of_job[1] or item.keep or '')
    local rows = keep and try('ZCARD', index) or 0
    local open = job .. (row.tick and ':active' or ':given')
    -- Rows are dropped when a tenth of `keep` is too many, at most ten: so few ends of runs have to look for some.
    if keep and rows > keep and rows - (try('HLEN', open) or 0) >= keep + math.max(1, math.min(10, keep / 10)) then
        try_all(rare().trim, item.prefix .. ':run:', index, open, keep, item.run)
    end
    if not item.stock then settle_in_rq(item, hash, was.state == 'queued', is_usual) end
    local dependents = hash .. ':dependents'
    if call('EXISTS', job .. ':behind', job .. ':gated', job .. ':children', dependents) == 0 then return 'settled' end
    pass_turn(item, job)
    if counts and call('EXISTS', job .. ':children') == 1 then
        pcall(rare().trigger_children, item, item.job, item.run, item.outcome, is_back)
    end
    return not item.stock and call('EXISTS', dependents) == 1 and 'depended' or 'settled'
end
