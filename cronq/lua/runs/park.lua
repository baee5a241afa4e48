-- Parks a run that may not be skipped while its lock is busy: it waits for the lock, without keeping a worker.
--
-- KEYS  1 job:{lock}:waiting   2 waiting   3 events
-- ARGV  1 prefix   2 run id   3 now (epoch seconds)   4 queue of the run   5 lock   6 events to keep
-- Returns 1 when the run was parked, 0 when it is neither queued nor requeued: a stray id, which is nowhere now.
--         A key of a wrong type: an error, and nothing was written.
--
-- One step, because a run between its queue and the waiting set would be in neither after a crash.
--@ event
--@ keep_attempt
--@ open_set
--@ rq
--@ types

local call = redis.call
local prefix, id, lock = ARGV[1], ARGV[2], ARGV[5]
local run, popped = prefix .. ':run:' .. id, RQ .. 'queue:' .. ARGV[4] .. ':intermediate'
local row = call('HMGET', run, 'state', 'job', 'attempt')
local active = open_set(prefix, row[2], id)
local wrong = wrong_type({KEYS[1], 'zset', KEYS[2], 'set', active, 'hash', popped, 'list'})
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
call('LREM', popped, 0, id)
if row[1] == 'done' and redis.pcall('HGET', RQ .. 'job:' .. id, 'status') == 'queued' then
    -- Requeued by a person: the next attempt begins here, with its waiting.
    local attempt = tonumber(row[3] or '') or 1
    keep_attempt(run, attempt)
    call('HSET', run, 'attempt', attempt + 1)
    call('HDEL', run, 'started_at', 'host', 'pid', 'worker')
elseif row[1] ~= 'queued' then
    return 0
end
call('HSET', run, 'state', 'waiting', 'reason', 'its lock is busy', 'lock', lock)
call('ZADD', KEYS[1], 'NX', ARGV[3], id)
call('SADD', KEYS[2], lock)
call('HSET', active, id, 'waiting')
try_event(KEYS[3], ARGV[6], 'parked', row[2], id)
return 1
