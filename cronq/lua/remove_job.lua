-- Removes a job: its definition, agenda entry and queued runs. Running ones go on; the ledger lives out its time.
--
-- KEYS  1 jobs   2 job:{name}   3 job:{name}:state   4 job:{name}:template   5 agenda   6 events
--       7 job:{name}:active   8 job:{name}:runs   9 job:{name}:manual   10 job:{name}:given
-- ARGV  1 prefix   2 name   3 now (epoch seconds)   4 life of what stays (seconds)   5 by whom   6 events to keep
-- Returns the number of queued runs that were stopped, -1 when there was no such job.
--
-- One step, because a beat that claims between two of these would leave a ghost in the agenda or a run
-- of a job that nobody knows.
for i, kind in pairs({[1] = 'set', [5] = 'zset', [6] = 'stream'}) do
    local found = redis.call('TYPE', KEYS[i]).ok
    if found ~= 'none' and found ~= kind then return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is not a ' .. kind) end
end
if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('SISMEMBER', KEYS[1], ARGV[2]) == 0 then return -1 end
local stopped = 0
for _, set in ipairs({KEYS[7], KEYS[10]}) do
    for _, id in ipairs(redis.call('TYPE', set).ok == 'hash' and redis.call('HKEYS', set) or {}) do
        local row = ARGV[1] .. ':run:' .. id
        local known = redis.call('TYPE', row).ok == 'hash' and redis.call('HMGET', row, 'state', 'queue') or {}
        if known[1] == 'queued' or known[1] == 'waiting' then
            redis.call('LREM', 'rq:queue:' .. (known[2] or 'default'), 0, id)
            redis.call('DEL', 'rq:job:' .. id)
            redis.pcall('ZREM', ARGV[1] .. ':delayed', id)
            redis.pcall('ZREM', 'rq:scheduler:scheduled_jobs', id)
            redis.call('HSET', row, 'state', 'done', 'outcome', 'stopped', 'reason', 'the job was removed',
                'decided_by', ARGV[5], 'ended_at', ARGV[3])
            redis.call('EXPIRE', row, ARGV[4])
            redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[6], '*', 'type', 'stopped', 'job', ARGV[2], 'run', id)
            redis.call('HDEL', set, id)
            stopped = stopped + 1
        end
    end
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
redis.call('SREM', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[5], ARGV[2])
for i = 7, 10 do redis.call('EXPIRE', KEYS[i], ARGV[4]) end
redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[6], '*', 'type', 'job_removed', 'job', ARGV[2])
return stopped
