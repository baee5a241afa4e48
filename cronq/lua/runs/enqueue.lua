-- Queues one run that has no tick (by hand, through the API): ledger row, RQ job, push and the set of open ones.
--
-- KEYS  1 run:{id}   2 job:{name}:manual   3 job:{name}:given   4 rq:job:{id}   5 rq:queue:{queue}   6 rq:queues   7 events
-- ARGV  1 JSON {prefix, name, run, queue, trigger, token, by, now, events, keep, args, reason}
--         args: arguments as JSON text, absent: the job's own   keep: settled rows of this kind to keep
--       2… field, value, … of the RQ job (binary, so not in the JSON)
-- Returns won | mine (claimed by an earlier call with the same token, whose reply was lost) | taken
--       | gone (no such job) | broken <key> (a wrong type; nothing was written)
--
-- One step, for the same reasons as runs/claim.lua; there is no mark and no dedup key, the ledger row is the guard.
--@ event
--@ push
--@ trim
--@ why_not

local item = cjson.decode(ARGV[1])
local call = redis.call
local wanted = {KEYS[1], 'hash', KEYS[2], 'zset', KEYS[3], 'hash', KEYS[4], 'hash', KEYS[5], 'list', KEYS[6], 'set',
    KEYS[7], 'stream'}
local answer = why_not(wanted, item.prefix .. ':job:' .. item.name, item.token)
if answer then return answer end
call('HSET', KEYS[1], 'job', item.name, 'state', 'queued', 'trigger', item.trigger, 'queue', item.queue,
    'queued_at', item.now, 'decided_by', item.by, 'token', item.token)
if item.args then call('HSET', KEYS[1], 'args', item.args) end
if item.reason then call('HSET', KEYS[1], 'reason', item.reason) end
call('ZADD', KEYS[2], item.now, item.run)
call('HSET', KEYS[3], item.run, 'queued')
call('DEL', KEYS[4])
call('HSET', KEYS[4], unpack(ARGV, 2))
push(item.prefix, item.queue, 'RPUSH', {item.run})
event(KEYS[7], item.events, 'queued', item.name, item.run)
trim(item.prefix .. ':run:', KEYS[2], KEYS[3], item.keep)
return 'won'
