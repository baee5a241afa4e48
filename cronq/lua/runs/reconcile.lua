-- Compares runs that the ledger has as queued with RQ's records, and repushes those that are in none of RQ's lists.
--
-- KEYS  1 events   2 rq:queues   (the others are built from the runs: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, now, events, runs: [[run id, 1 when it was in no list for a while, else 0]…]}
-- Returns JSON: for each run, in order, [code, queue, status]; status is RQ's own word for the run, "" without one
--         on_its_way  as far as can be seen from here   moved_on  the ledger does not have it as queued (any more)
--         deleted     its RQ job is gone                canceled  RQ's tools cancelled it
--         ended       RQ holds it for ended, though it never began in the ledger
--         repushed    it was in no list: it is again, at the head of its queue
--         vanished    it was in no list once more after it had been repushed
--
-- One step, because a run is taken, started or rejected between any two commands: only one that is queued in
-- the ledger and in no list at one and the same moment may be pushed, or it would be in two places.
--@ event
--@ open_set
--@ push
--@ rq
--@ types

local batch = cjson.decode(ARGV[1])
local call, prefix = redis.call, batch.prefix
local over = {failed = true, finished = true, stopped = true}

-- Returns true if a stock RQ worker is at it: it says so to RQ first, and to the ledger when it has imported the job.
local function is_worked_on(id, queue)
    for _, entry in ipairs(call('ZRANGEBYSCORE', RQ .. 'wip:' .. queue, batch.now, '+inf')) do
        if string.sub(entry, 1, #id + 1) == id .. ':' then return true end
    end
    return false
end

local function repush(id, row, job, queue, hash)
    local waiting = RQ .. 'queue:' .. queue
    local popped, active = waiting .. ':intermediate', open_set(prefix, job, id)
    if wrong_type({waiting, 'list', popped, 'list', active, 'hash', KEYS[1], 'stream', KEYS[2], 'set',
            RQ .. 'wip:' .. queue, 'zset'}) then
        return 'on_its_way'  -- whoever meets that key says what is wrong with it
    end
    if call('LPOS', waiting, id) or call('LPOS', popped, id) or is_worked_on(id, queue) then return 'on_its_way' end
    local known = call('HMGET', row, 'attempt', 'put_back')
    local attempt = known[1] or '1'
    if known[2] == attempt then return 'vanished' end
    call('HSET', row, 'put_back', attempt)
    call('HSET', active, id, 'queued')
    call('HSET', hash, 'status', 'queued')
    push(prefix, queue, 'LPUSH', {id})
    event(KEYS[1], batch.events, 'queued', job, id)
    return 'repushed'
end

local function compare(id, is_missing)
    local row, hash = prefix .. ':run:' .. id, RQ .. 'job:' .. id
    if not fits(row, 'hash') then return {'moved_on', '', ''} end
    local known = call('HMGET', row, 'state', 'job', 'queue')
    local queue = known[3] or 'default'
    if known[1] == 'done' and known[2] then  -- settled by the release before, which knows one of the two sets
        for _, set in ipairs({':active', ':given'}) do redis.pcall('HDEL', prefix .. ':job:' .. known[2] .. set, id) end
    end
    if known[1] ~= 'queued' or not known[2] then return {'moved_on', '', ''} end
    if call('EXISTS', hash) == 0 then return {'deleted', queue, ''} end
    if not fits(hash, 'hash') then return {'on_its_way', queue, ''} end
    local status = call('HGET', hash, 'status') or ''
    if status == 'canceled' then return {'canceled', queue, status} end
    if over[status] then return {'ended', queue, status} end
    if is_missing == 0 or (status ~= 'queued' and status ~= 'started') then return {'on_its_way', queue, status} end
    return {repush(id, row, known[2], queue, hash), queue, status}
end

local answers = {}
for i, item in ipairs(batch.runs) do answers[i] = compare(item[1], item[2]) end
return cjson.encode(answers)
