-- Changes when an entry of rq-scheduler's store is due.
--
-- KEYS  1 rq:scheduler:scheduled_jobs   2 delayed   3 run:{id}   4 job:{name}:manual   5 events
-- ARGV  1 id   2 new time (epoch seconds)   3 reason for the ledger   4 events to keep
-- Returns moved | gone (it is not there: served, stopped or never made) | broken <key> (nothing was written)
--
-- One step, because an entry that is served in between must not come back.
--@ event
--@ types

local _, wrong = wrong_type({KEYS[1], 'zset', KEYS[2], 'zset', KEYS[3], 'hash', KEYS[4], 'zset'})
if wrong then return 'broken ' .. wrong end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 'gone' end
local row = redis.call('HMGET', KEYS[3], 'state', 'job')
if row[1] == 'waiting' then
    redis.call('HSET', KEYS[3], 'reason', ARGV[3])
    redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
    redis.call('ZADD', KEYS[4], 'XX', ARGV[2], ARGV[1])
    try_event(KEYS[5], ARGV[4], 'rescheduled', row[2] or '', ARGV[1])
end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return 'moved'
