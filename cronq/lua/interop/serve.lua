-- Queues what is due in rq-scheduler's store and in RQ's registries of scheduled jobs, each entry once.
--
-- KEYS  none (all are built from the entries: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, holder, now, stamp, events, by, most_aside}   holder: ours, in the locks of the stores
--       2… three for each entry: JSON {store, score, act, next, later, queue, front, stale, ttl, timeout, needs,
--         reason}, its id, and meta
--         act: run (a run of ours), push (anybody's RQ job), move (only to its next time), drop (no RQ job any more),
--              aside (it cannot be understood, and is rejected)
--         score: where it was read; it must still be there   next: when it is due again once it was queued, or absent
--         later: when it is due again if it cannot be queued now; absent for what is due once
--         meta: what its RQ job gets, "" to leave it   needs: RQ jobs that must have finished first, or absent
--         stale: it was queued or started long ago: only what is really there keeps it from being queued again
-- Returns JSON: for each entry, in order, [code, detail]
--         served    it is on its queue            busy      still queued or at work: only its next time was written
--         deferred  it waits for RQ jobs          moved, dropped, aside   as asked
--         taken     it is not there any more, or at another time: somebody else served or changed it
--         held      its lock is not ours          bodiless  a run of ours whose RQ job was deleted
--         broken    a key it needs has a wrong type or is not ours to touch: nothing was written
--
-- One step, because an entry that is on its queue and still in the store would run twice, one in neither would be
-- lost, and a repeating one that leaves the store before its next time is written would be gone for good.
--@ event
--@ open_set
--@ push
--@ refusal
--@ rq
--@ types

local batch = cjson.decode(ARGV[1])
local prefix, now, stamp = batch.prefix, batch.now, batch.stamp
local call = redis.call

-- Life of an RQ job and of what it is tied to, as RQ's `cleanup` gives it. (Yes, two colons: that is RQ's key.)
local function limit(id, ttl)
    if not ttl then return end
    local hash = RQ .. 'job:' .. id
    for _, each in ipairs({hash, hash .. ':dependents', RQ .. 'job::' .. id .. ':dependencies'}) do
        call('EXPIRE', each, ttl)
    end
end

local function queue_job(queue, id, hash, item)
    call('HSET', hash, 'status', 'queued', 'enqueued_at', stamp, 'origin', queue)
    call('HSETNX', hash, 'timeout', item.timeout)
    limit(id, item.ttl)
    push(prefix, queue, item.front and 'LPUSH' or 'RPUSH', {id})
end

-- A run of ours: with its ledger row.
local function serve_run(item, id, store)
    local run, hash, delayed = prefix .. ':run:' .. id, RQ .. 'job:' .. id, prefix .. ':delayed'
    local row = call('HMGET', run, 'state', 'job', 'queue')
    if row[1] ~= 'waiting' then
        call('ZREM', store, id)
        return {'dropped', 'it is ' .. (row[1] or 'unknown')}
    end
    if call('EXISTS', hash) == 0 then return {'bodiless', row[2]} end
    local active, events = open_set(prefix, row[2], id), prefix .. ':events'
    local wrong = wrong_type({hash, 'hash', active, 'hash', delayed, 'zset', events, 'stream', RQ .. 'queues', 'set',
        RQ .. 'queue:' .. row[3], 'list'})
    if wrong then return {'broken', wrong} end
    call('ZREM', store, id)
    call('ZREM', delayed, id)
    call('HSET', run, 'state', 'queued', 'queued_at', now)
    call('HSET', active, id, 'queued')
    event(events, batch.events, 'queued', row[2], id)
    queue_job(row[3], id, hash, item)
    return {'served', row[3]}
end

-- Returns true if an RQ job is on its queue, popped from it, or at work.
local function is_busy(id, queue, status, stale)
    if status == 'deferred' then return true end
    if status == 'queued' then
        local waiting = RQ .. 'queue:' .. queue
        return not stale or call('LPOS', waiting, id) or call('LPOS', waiting .. ':intermediate', id)
    end
    if status ~= 'started' then return false end
    if not stale then return true end
    local begins = id .. ':'
    for _, entry in ipairs(call('ZRANGEBYSCORE', RQ .. 'wip:' .. queue, now, '+inf')) do
        if string.sub(entry, 1, #begins) == begins then return true end
    end
    return false
end

local function unfinished(needs)
    for _, id in ipairs(needs or {}) do
        local hash = RQ .. 'job:' .. id
        if call('TYPE', hash).ok == 'hash' and call('HGET', hash, 'status') ~= 'finished' then return true end
    end
    return false
end

-- As RQ's `setup_dependencies` leaves a job that others have to finish for.
local function defer(item, id, hash)
    call('HSET', hash, 'status', 'deferred', 'origin', item.queue)
    for _, each in ipairs(item.needs) do
        call('SADD', RQ .. 'job:' .. each .. ':dependents', id)
        call('SADD', RQ .. 'job::' .. id .. ':dependencies', each)
    end
    call('ZADD', RQ .. 'deferred:' .. item.queue, math.floor(tonumber(now)), id)
    limit(id, item.ttl)
    call('SADD', RQ .. 'queues', RQ .. 'queue:' .. item.queue)
end

local function serve_job(item, id, store, meta)
    local hash, queue = RQ .. 'job:' .. id, item.queue
    local waiting = RQ .. 'queue:' .. queue
    local wanted = {hash, 'hash', RQ .. 'queues', 'set', waiting, 'list', waiting .. ':intermediate', 'list',
        RQ .. 'wip:' .. queue, 'zset', RQ .. 'deferred:' .. queue, 'zset',
        RQ .. 'job::' .. id .. ':dependencies', 'set'}
    for _, each in ipairs(item.needs or {}) do
        wanted[#wanted + 1] = RQ .. 'job:' .. each .. ':dependents'
        wanted[#wanted + 1] = 'set'
    end
    local wrong = wrong_type(wanted)
    if wrong then return {'broken', wrong} end
    if call('EXISTS', hash) == 0 then
        call('ZREM', store, id)
        return {'dropped', 'its RQ job was deleted'}
    end
    local status = call('HGET', hash, 'status') or ''
    local busy = is_busy(id, queue, status, item.stale)
    local answer
    if busy then
        answer = {'busy', status}
    elseif not item.later and status ~= 'scheduled' and status ~= 'created' and status ~= '' then
        answer = {'dropped', 'it is ' .. status .. ' already'}
    else
        if meta ~= '' then call('HSET', hash, 'meta', meta) end
        if unfinished(item.needs) then
            defer(item, id, hash)
            answer = {'deferred', queue}
        else
            queue_job(queue, id, hash, item)
            answer = {'served', queue}
        end
    end
    -- Last: should a command above fail after all, the entry is still there, and busy.
    local again = busy and item.later or item.next
    if again then call('ZADD', store, again, id) else call('ZREM', store, id) end
    return answer
end

local function reject_entry(item, id, store)
    local aside = prefix .. ':aside'
    local wrong = wrong_type({aside, 'hash'})
    if wrong then return {'broken', wrong} end
    call('ZREM', store, id)
    if call('HLEN', aside) < batch.most_aside then
        call('HSET', aside, id, cjson.encode({store = item.store, due = item.score, reason = item.reason, at = now}))
        call('EXPIRE', aside, 30 * 86400)
    end
    return {'aside', item.reason}
end

local function serve(item, id, meta)
    local store, lock = 'rq:scheduler:scheduled_jobs', 'rq:scheduler_lock'
    if item.store ~= '' then store, lock = RQ .. 'scheduled:' .. item.store, RQ .. 'scheduler-lock:' .. item.store end
    if call('GET', lock) ~= batch.holder then return {'held', ''} end
    local score = call('ZSCORE', store, id)
    if not score or score ~= item.score and tonumber(score) ~= tonumber(item.score) then return {'taken', ''} end
    if item.act == 'run' then return serve_run(item, id, store) end
    if item.act == 'push' then return serve_job(item, id, store, meta) end
    if item.act == 'aside' then return reject_entry(item, id, store) end
    if item.act == 'move' then
        call('ZADD', store, item.next, id)
        return {'moved', ''}
    end
    call('ZREM', store, id)
    return {'dropped', item.reason}
end

local answers = {}
for at = 2, #ARGV, 3 do
    -- Protected, because one key that may not be touched must not keep back the others.
    local fine, answer = pcall(serve, cjson.decode(ARGV[at]), ARGV[at + 1], ARGV[at + 2])
    if not fine then
        local message = tostring(type(answer) == 'table' and answer.err or answer)
        local refused = refusal(message)
        if refused then return redis.error_reply(refused) end
        answer = {'broken', message}
    end
    answers[#answers + 1] = answer
end
return cjson.encode(answers)
