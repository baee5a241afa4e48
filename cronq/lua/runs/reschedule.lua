-- Changes when an entry of rq-scheduler's store is due.
--
-- KEYS  1 rq:scheduler:scheduled_jobs   2 delayed   3 run:{id}   4 job:{name}:manual
-- ARGV  1 id   2 new time (epoch seconds)   3 reason for the ledger
-- Returns moved | gone (it is not there: served, stopped or never made) | broken <key> (nothing was written)
--
-- One step, because an entry that is served in between must not come back.
--@ types

local _, wrong = wrong_type({KEYS[1], 'zset', KEYS[2], 'zset', KEYS[3], 'hash', KEYS[4], 'zset'})
if wrong then return 'broken ' .. wrong end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 'gone' end
if redis.call('HGET', KEYS[3], 'state') == 'waiting' then
    redis.call('HSET', KEYS[3], 'reason', ARGV[3])
    redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
    redis.call('ZADD', KEYS[4], 'XX', ARGV[2], ARGV[1])
end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return 'moved'
