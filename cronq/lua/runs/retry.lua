-- Queues the runs whose next attempt is due.
--
-- KEYS  1 retries   2 events
-- ARGV  1 prefix   2 now (epoch seconds)   3 now as RQ writes times   4 events to keep   5 most runs
-- Returns JSON {queued: [run id…], over: [[run id, why]…], broken: [[run id, why]…], looked_at}; absent: none
--         over: its RQ job was `deleted` or `canceled`: nothing was written, settle it
--         broken: a key it needs has a wrong type: it was only moved behind others, for 30 s
--         looked_at: how many were due; as many as asked for: there may be more
--
-- An entry whose run does not wait for its next attempt is dropped, and one that is earlier than the run's own time is
-- corrected: the row decides.
--
-- One step, because a run that is queued and still listed would be queued twice by two beats, and one that is neither
-- would wait for ever.
--@ event
--@ open_set
--@ push
--@ rq
--@ types

local call, prefix, now, stamp = redis.call, ARGV[1], tonumber(ARGV[2]), ARGV[3]
local queued, over, broken = {}, {}, {}
local pushed = {}  -- queue -> ids

local function queue_run(id, run, job, queue, hash)
    local active = open_set(prefix, job, id)
    local wrong = wrong_type({hash, 'hash', active, 'hash', KEYS[2], 'stream', RQ .. 'queues', 'set',
        RQ .. 'queue:' .. queue, 'list'})
    if wrong then
        call('ZADD', KEYS[1], now + 30, id)
        broken[#broken + 1] = {id, wrong}
        return
    end
    call('ZREM', KEYS[1], id)
    call('HSET', run, 'state', 'queued', 'queued_at', ARGV[2])
    call('HDEL', run, 'reason', 'decided_by', 'retry_at')
    call('HSET', active, id, 'queued')
    for _, name in ipairs({'finished', 'failed', 'canceled'}) do  -- where a stock RQ worker has left it
        redis.pcall('ZREM', RQ .. name .. ':' .. queue, id)
    end
    call('PERSIST', hash)
    call('HSET', hash, 'status', 'queued', 'enqueued_at', stamp)
    local ids = pushed[queue]
    if ids then ids[#ids + 1] = id else pushed[queue] = {id} end
    event(KEYS[2], ARGV[4], 'queued', job, id)
    queued[#queued + 1] = id
end

local function look(id)
    local run, hash = prefix .. ':run:' .. id, RQ .. 'job:' .. id
    local row = redis.pcall('HMGET', run, 'state', 'job', 'queue', 'retry_at', 'tick')
    if row.err or row[1] ~= 'retrying' or not row[2] then return call('ZREM', KEYS[1], id) end
    local due = tonumber(row[4] or '')
    if due and due > now then return call('ZADD', KEYS[1], row[4], id) end
    local left = prefix .. ':removed:' .. row[2] .. (row[5] and ':active' or ':given')
    if redis.pcall('HEXISTS', left, id) == 1 then return call('ZREM', KEYS[1], id) end  -- it is about to be stopped
    if call('EXISTS', hash) == 0 then
        over[#over + 1] = {id, 'deleted'}
    elseif redis.pcall('HGET', hash, 'status') == 'canceled' then
        over[#over + 1] = {id, 'canceled'}
    else
        queue_run(id, run, row[2], row[3] or 'default', hash)
    end
end

local due = call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[5])
for _, id in ipairs(due) do look(id) end
for queue, ids in pairs(pushed) do push(prefix, queue, 'RPUSH', ids) end
return cjson.encode({queued = #queued > 0 and queued or nil, over = #over > 0 and over or nil,
    broken = #broken > 0 and broken or nil, looked_at = #due})
