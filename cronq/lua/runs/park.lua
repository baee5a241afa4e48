-- Sets a run aside that may not be skipped while its lock is busy, or puts the oldest one back on its queue.
--
-- KEYS  1 job:{lock}:waiting   2 waiting
-- ARGV  1 prefix   2 run id, or "" to put the oldest back   3 now (epoch seconds)   4 queue of the run   5 lock
-- Returns 1 when a run was set aside or put back, 0 when there was none. A key of a wrong type: an error, and nothing
-- was written; a run that cannot be put back because of one goes on waiting, and the next has its turn.
--
-- One step, because a run between the waiting set and its queue would be in neither after a crash.
--@ keep_attempt
--@ open_set
--@ push
--@ types

local call = redis.call
local function row(id) return ARGV[1] .. ':run:' .. id end
local function active(job, id) return open_set(ARGV[1], job, id) end
if ARGV[2] ~= '' then
    local known = call('HMGET', row(ARGV[2]), 'state', 'job', 'attempt')
    local popped = 'rq:queue:' .. ARGV[4] .. ':intermediate'
    local wrong = wrong_type({KEYS[1], 'zset', KEYS[2], 'set', active(known[2], ARGV[2]), 'hash', popped, 'list'})
    if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
    call('LREM', popped, 0, ARGV[2])
    if known[1] == 'done' and redis.pcall('HGET', 'rq:job:' .. ARGV[2], 'status') == 'queued' then
        -- Put back by a person: the next attempt begins here, with its waiting.
        local attempt = tonumber(known[3] or '') or 1
        keep_attempt(row(ARGV[2]), attempt)
        call('HSET', row(ARGV[2]), 'attempt', attempt + 1)
        call('HDEL', row(ARGV[2]), 'started_at', 'host', 'pid', 'worker')
    elseif known[1] ~= 'queued' then
        return 0
    end
    call('HSET', row(ARGV[2]), 'state', 'waiting', 'reason', 'its lock is busy', 'lock', ARGV[5])
    call('ZADD', KEYS[1], 'NX', ARGV[3], ARGV[2])
    call('SADD', KEYS[2], ARGV[5])
    call('HSET', active(known[2], ARGV[2]), ARGV[2], 'waiting')
    return 1
end
for _, next in ipairs(call('ZRANGE', KEYS[1], 0, 99)) do
    local known = redis.pcall('HMGET', row(next), 'state', 'queue', 'job')  -- one of a wrong type is passed over
    local queue = 'rq:queue:' .. (known[2] or 'default')
    if known[1] ~= 'waiting' then
        call('ZREM', KEYS[1], next)
    elseif not wrong_type({queue, 'list', 'rq:queues', 'set', active(known[3], next), 'hash'}) then
        call('ZREM', KEYS[1], next)
        call('HSET', row(next), 'state', 'queued')
        call('HDEL', row(next), 'reason', 'lock')
        call('HSET', active(known[3], next), next, 'queued')
        push(ARGV[1], known[2] or 'default', 'RPUSH', {next})
        return 1
    end
end
if call('EXISTS', KEYS[1]) == 0 then call('SREM', KEYS[2], ARGV[5]) end
return 0
