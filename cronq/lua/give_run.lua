-- Queues one run that has no tick (by hand, through the API): ledger row, RQ job, push and active set.
--
-- KEYS  1 job:{name}   2 run:{id}   3 job:{name}:manual   4 job:{name}:active   5 rq:job:{id}   6 rq:queue:{queue}
--       7 rq:queues   8 events   9 wake (channel)
-- ARGV  1 JSON {name, run, queue, trigger, token, by, now, events, keep, args, reason}
--         args: arguments as JSON text, absent: the job's own   keep: rows of this kind to keep
--       2… field, value, … of the RQ job (binary, so not in the JSON)
-- Returns won | mine (claimed by an earlier call with the same token, whose reply was lost) | taken
--       | gone (no such job) | broken <key> (a wrong type; nothing was written)
--
-- One step, for the same reasons as claim.lua; there is no mark and no dedup key, the ledger row is the guard.
--@ why_not

local item = cjson.decode(ARGV[1])
local call = redis.call
local kinds = {'hash', 'hash', 'zset', 'hash', 'hash', 'list', 'set', 'stream'}
local answer = why_not(kinds, item.token)
if answer then return answer end
call('HSET', KEYS[2], 'job', item.name, 'state', 'queued', 'trigger', item.trigger, 'queue', item.queue,
    'queued_at', item.now, 'decided_by', item.by, 'token', item.token)
if item.args then call('HSET', KEYS[2], 'args', item.args) end
if item.reason then call('HSET', KEYS[2], 'reason', item.reason) end
call('ZADD', KEYS[3], item.now, item.run)
call('ZREMRANGEBYRANK', KEYS[3], 0, -item.keep - call('ZCOUNT', KEYS[3], '(' .. item.now, '+inf') - 1)  -- not the delayed
call('DEL', KEYS[5])
call('HSET', KEYS[5], unpack(ARGV, 2))
call('HSET', KEYS[4], item.run, 'queued')
call('SADD', KEYS[7], KEYS[6])
call('RPUSH', KEYS[6], item.run)
call('PUBLISH', KEYS[9], item.queue)
call('XADD', KEYS[8], 'MAXLEN', '~', item.events, '*', 'type', 'queued', 'job', item.name, 'run', item.run)
return 'won'
