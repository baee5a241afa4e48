-- Gives a beat the turn to publish RQ's record of a cron scheduler, unless it is another's, and writes that record.
--
-- KEYS  1 rq-cron   2 rq:cron_schedulers   3 rq:cron_scheduler:{name}
-- ARGV  1 id of the beat   2 life of its turn (seconds)   3 name of the record   4 now (epoch seconds)
--       5 life of the record (seconds)   6… field, value, … of the record; none: only the turn is taken
-- Returns 1 when it is this beat's turn, 0 when it is another's (then nothing was written)
--
-- One step, because a beat whose turn has passed to another meanwhile must not write over what that one wrote.
--@ types

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
local wrong = wrong_type({KEYS[2], 'zset', KEYS[3], 'hash'})
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if #ARGV > 5 then
    redis.call('HSET', KEYS[3], unpack(ARGV, 6))
    redis.call('EXPIRE', KEYS[3], ARGV[5])
    redis.call('ZADD', KEYS[2], ARGV[4], ARGV[3])
end
return 1
