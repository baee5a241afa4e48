--@ count_failure
--@ event
--@ in_order
--@ keep_attempt
--@ keep_result
--@ lean_row
--@ open_gates
--@ open_set
--@ rq
--@ trigger
--@ trim
--@ turn
-- Part of settle and settle_and_take. Ends the attempt of a run that *item* tells of; runs/settle explains both it and
-- what is returned; and true as second for a call that came before, and whose reply was lost.
local function settle_run(item)
    local call = redis.call
    local run = item.prefix .. ':run:' .. item.run
    local job = item.prefix .. ':job:' .. item.job
    local running = item.prefix .. ':running'
    local hash, queue, wip = RQ .. 'job:' .. item.run, RQ .. 'queue:' .. item.queue, RQ .. 'wip:' .. item.queue
    -- Does what it can: an error that a wrong type makes is answered like nothing at all.
    local function try(...)
        local reply = redis.pcall(...)
        if type(reply) ~= 'table' or not reply.err then return reply end
        if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply.err, 0) end
        return nil
    end
    -- The same for a function of several commands.
    local function try_all(does, ...)
        local fine, why = pcall(does, ...)
        if not fine and not string.find(tostring(type(why) == 'table' and why.err or why), 'WRONGTYPE', 1, true) then
            error(why, 0)
        end
    end
    -- RQ writes these for every job and reads a job without them alike: what is empty, and when one that has ended was
    -- last heard of. They are a fifth of what it keeps.
    local function drop_needless()
        local names = {'group_id', 'success_callback_name', 'failure_callback_name', 'stopped_callback_name'}
        local values, needless = call('HMGET', hash, unpack(names)), {'last_heartbeat'}
        for i, name in ipairs(names) do
            if values[i] == '' then needless[#needless + 1] = name end
        end
        call('HDEL', hash, unpack(needless))
    end
    -- From both sets: the release before knew one, and may have put it there.
    local function leave_open()
        try('HDEL', job .. ':active', item.run)
        try('HDEL', job .. ':given', item.run)
    end
    -- A queue is looked through only for a run that may stand in it, and only while that is quick: Redis answers nobody
    -- meanwhile. In a longer one the id stays, without its RQ job: whoever pops it drops it, RQ's own tools do too.
    local function leave_queue()
        if (try('LLEN', queue) or 0) <= 100000 then
            try('LREM', queue, 0, item.run)
        elseif call('TYPE', hash).ok == 'hash' then
            call('DEL', hash)
        end
    end
    local function leave_work()
        try('LREM', queue .. ':intermediate', 0, item.run)
        if item.execution then
            try('ZREM', wip, item.run .. ':' .. item.execution)
            try('DEL', RQ .. 'execution:' .. item.run .. ':' .. item.execution)
            try('ZREM', RQ .. 'executions:' .. item.run, item.execution)
        else
            -- By the list of what is worked on, which has no life of its own: the execution's record may have expired.
            local begins = item.run .. ':'
            for _, entry in ipairs(try('ZRANGE', wip, 0, -1) or {}) do
                if string.sub(entry, 1, #begins) == begins then
                    try('ZREM', wip, entry)
                    try('DEL', RQ .. 'execution:' .. entry)
                end
            end
            try('DEL', RQ .. 'executions:' .. item.run)
        end
        for _, name in ipairs({'finished', 'failed', 'canceled'}) do
            try('ZREM', RQ .. name .. ':' .. item.queue, item.run)  -- where an earlier attempt left it
        end
    end
    local function settle_in_rq(may_be_queued)
        if may_be_queued then leave_queue() end
        leave_work()
        if call('TYPE', hash).ok == 'hash' then
            try('HSET', hash, 'status', item.status, 'ended_at', item.stamp)
            drop_needless()
            try('EXPIRE', hash, item.life)
            try('ZADD', item.registry, math.floor(tonumber(item.now) + item.life), item.run)
        end
        if item.results then keep_result(item.run, item.results, item.life) end
    end

    -- Takes a run that waits out of those behind an earlier run of the job. The one after it waits for what it waited
    -- for.
    local function leave_turn(waited_for, cause)
        local behind = job .. ':behind'
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
    -- The next run of the job has its turn, and runs of its children go that waited for this one. Whatever keeps them
    -- from being queued, this one is settled; a beat tries again.
    local function pass_turn()
        if call('EXISTS', job .. ':behind', job .. ':gated') == 0 then return end
        pcall(next_turn, item, item.job)
        if item.outcome == 'succeeded' then pcall(open_gates, item, item.job) end
    end

    local row = {}
    if call('TYPE', run).ok == 'hash' then
        local flat = call('HGETALL', run)
        for i = 1, #flat, 2 do row[flat[i]] = flat[i + 1] end
    end
    if not row.state then
        leave_open()
        try('ZREM', running, item.run)
        if not item.stock then settle_in_rq(item.expect ~= 'running') end
        pass_turn()
        return 'unknown'
    end
    -- A guardian that was cut off alone is back: it knows how the run ended, the beat only that it was not heard of.
    local is_back = row.state == 'done' and row.outcome == 'lost' and item.outcome ~= 'lost' and item.execution
        and row.execution == item.execution and redis.pcall('HGET', hash, 'status') ~= 'queued'
    local is_forgotten = row.state == 'queued' and item.expect == 'running' and item.execution and not row.execution
    local function settled()
        return call('EXISTS', hash .. ':dependents') == 1 and 'depended' or 'settled'
    end
    -- By this very call, whose reply was lost: somebody who stops a run is not to be told that there was nothing to
    -- stop.
    if item.expect ~= 'running' and row.state == 'done' and row.ended_at == item.now and row.decided_by == item.by
            and row.outcome == item.outcome then
        return settled(), true
    end
    if item.retry and item.execution and row.put_back == item.execution then return 'retrying', true end
    if row.state ~= item.expect and not is_back and not is_forgotten then return 'stale' end
    local is_of_another = item.execution and row.execution and row.execution ~= item.execution
    if row.state == 'running' and is_of_another then return 'stale' end
    if item.attempt and (row.attempt or '1') ~= tostring(item.attempt) then return 'stale' end
    if item.unseen_since then
        local seen = try('ZSCORE', running, item.run)
        if seen and tonumber(seen) > tonumber(item.unseen_since) then return 'stale' end
    end
    if item.rq_status then
        local status = redis.pcall('HGET', hash, 'status')
        if (status or '') ~= item.rq_status then return 'stale' end
    end

    -- Returns why a run that is to have another attempt cannot have one, in words, or nil.
    local function why_final()
        if is_back then return 'it was called lost meanwhile' end
        local by = redis.pcall('GET', item.prefix .. ':stop:' .. item.run)
        if type(by) == 'string' then
            return string.match(by, '%((replaced by the run [^ ()]+)%)$') or by .. ' asked it to stop'
        end
        local left = item.prefix .. ':removed:' .. item.job .. (row.tick and ':active' or ':given')
        if call('EXISTS', job) == 0 or redis.pcall('HEXISTS', left, item.run) == 1 then return 'its job was removed' end
        if call('TYPE', hash).ok ~= 'hash' then return 'its RQ job is gone' end
        return nil
    end
    -- The attempt is over and kept, the run is not. A list that cannot be written is written again by beats.
    local function retry()
        local attempt = tonumber(row.attempt or '') or 1
        if #(item.fields or {}) > 0 then call('HSET', run, unpack(item.fields)) end
        call('HSET', run, 'reason', item.reason, 'decided_by', item.by, 'ended_at', item.now)
        if not item.retry.snooze then call('HSET', run, 'outcome', item.outcome) end
        keep_attempt(run, attempt)
        call('HDEL', run, 'started_at', 'host', 'pid', 'worker', 'execution')
        call('HSET', run, 'state', 'retrying', 'attempt', attempt + 1, 'reason', item.retry.reason, 'decided_by',
            item.by, 'retry_at', item.retry.due, 'retried', item.retry.retried, 'put_back', item.execution or '')
        if row.crashes then call('HSET', run, 'crashes', row.crashes) end
        local since = row.snoozed_since or item.retry.snooze and item.now
        if since then call('HSET', run, 'snoozed_since', since) end
        try('HSET', open_set(item.prefix, item.job, item.run), item.run, 'retrying')
        try('ZREM', running, item.run)
        try('ZADD', item.prefix .. ':retries', item.retry.due, item.run)
        try_all(event, item.prefix .. ':events', item.events, 'retrying', item.job, item.run)
        if item.stock then return 'retrying' end
        if row.state == 'queued' and (try('LLEN', queue) or 0) <= 100000 then try('LREM', queue, 0, item.run) end
        leave_work()
        call('HSET', hash, 'status', 'scheduled', 'ended_at', item.stamp, 'worker_name', '')
        call('PERSIST', hash)
        return 'retrying'
    end
    if row.slow and try('HGET', job .. ':state', 'slow') == item.run then try('HDEL', job .. ':state', 'slow') end
    row.slow = nil
    if item.retry then
        local why = why_final()
        if not why then return retry() end
        item.reason = item.reason .. '; not retried: ' .. why
    end

    local was, waited_for, cause, needs = row.state, row.reason, row.cause, row.needs
    local lock = row.lock or item.job  -- the lock it may wait for; it need not be named after its job
    row.lock, row.retry_at, row.needs, row.in_turn, row.cause = nil, nil, nil, nil, nil
    for i = 1, #(item.fields or {}), 2 do row[item.fields[i]] = item.fields[i + 1] end
    row.state, row.outcome, row.reason, row.decided_by = 'done', item.outcome, item.reason, item.by
    row.ended_at = item.now
    local began = row.started_at
    lean_row(row)
    local flat = {}
    for name, value in pairs(row) do
        flat[#flat + 1] = name
        flat[#flat + 1] = value
    end
    call('DEL', run)  -- written anew, for a hash that once held a long value never becomes small again
    call('HSET', run, unpack(flat))
    call('EXPIRE', run, item.row_ttl)
    leave_open()
    try('ZREM', running, item.run)
    try('ZREM', item.prefix .. ':job:' .. lock .. ':waiting', item.run)
    try('DEL', item.prefix .. ':stop:' .. item.run)
    if was == 'retrying' then try('ZREM', item.prefix .. ':retries', item.run) end
    if item.expect == 'waiting' then  -- perhaps for its time
        try('ZREM', item.prefix .. ':delayed', item.run)
        try('ZREM', 'rq:scheduler:scheduled_jobs', item.run)
        leave_turn(waited_for, cause)
        if needs then leave_gates(item.prefix, item.run, needs) end
    end

    local executed = {succeeded = 1, failed = 1, timed_out = 1, stopped = 1, lost = 1}
    local has_run, has_children = item.expect == 'running' or was == 'retrying', false
    if executed[item.outcome] and has_run and call('EXISTS', job) == 1 then
        local state = job .. ':state'
        try('HSET', state, 'last_run', item.run, 'last_outcome', item.outcome, 'last_ended', item.now,
            'last_tick', row.tick or '')
        if began then try('HSETNX', state, 'first_run', began) end
        local streak = tonumber(try('HGET', state, 'streak') or '0') or 0
        has_children = call('EXISTS', job .. ':children') == 1
        if item.outcome == 'succeeded' then
            try('HSET', state, 'streak', math.max(streak, 0) + 1)
            local newest = tonumber(try('HGET', state, 'success_tick') or '') or 0
            local tick = tonumber(row.tick or '')
            if tick and tick > newest then try('HSET', state, 'success_tick', tick) end
            if not tick then  -- the one that began last, in whatever order they end
                local given = tonumber(try('HGET', state, 'success_given') or '')
                if not (given and given >= tonumber(began or item.now)) then
                    try('HSET', state, 'success_given', began or item.now)
                end
            end
            if tick then let_go_on(item.prefix, job, item.job, item.run, item.now) end
        elseif item.outcome ~= 'stopped' and not is_back then  -- else that it was lost has counted already
            count_failure(job, state, math.min(streak, 0) - 1, item)
        end
    end

    local by = item.outcome == 'stopped' and item.by or nil
    try_all(event, item.prefix .. ':events', item.events, item.outcome, item.job, item.run, by)
    -- Many that were made at once end when no other is made any more.
    local index, open = job .. (row.tick and ':runs' or ':manual'), job .. (row.tick and ':active' or ':given')
    local keep = tonumber(try('HGET', job, 'keep') or '')
    if keep then try_all(trim, item.prefix .. ':run:', index, open, keep, item.run) end
    if not item.stock then settle_in_rq(was == 'queued') end
    pass_turn()
    if has_children then pcall(trigger_children, item, item.job, item.run, item.outcome, is_back) end
    return item.stock and 'settled' or settled()
end
