-- Makes one run that is due later: ledger row (waiting), RQ job (scheduled), an entry in rq-scheduler's store.
--
-- KEYS  1 run:{id}   2 job:{name}:manual   3 job:{name}:given   4 rq:job:{id}   5 rq:scheduler:scheduled_jobs   6 delayed
--       7 events
-- ARGV  1 JSON {prefix, name, run, queue, trigger, token, by, due, events, keep, args, reason}
--         due: epoch seconds   args, keep: as in runs/enqueue.lua
--       2… field, value, … of the RQ job (binary, so not in the JSON)
-- Returns won | mine (made by an earlier call with the same token, whose reply was lost) | taken
--       | gone (no such job) | broken <key> (a wrong type; nothing was written)
--
-- One step, because a run that is in the ledger and not in the store would wait for ever, and one that is only
-- in the store would run unrecorded.
--@ event
--@ trim
--@ why_not

local item = cjson.decode(ARGV[1])
local call = redis.call
local wanted = {KEYS[1], 'hash', KEYS[2], 'zset', KEYS[3], 'hash', KEYS[4], 'hash', KEYS[5], 'zset', KEYS[6], 'zset',
    KEYS[7], 'stream'}
local answer = why_not(wanted, item.prefix .. ':job:' .. item.name, item.token)
if answer then return answer end
call('HSET', KEYS[1], 'job', item.name, 'state', 'waiting', 'trigger', item.trigger, 'queue', item.queue,
    'decided_by', item.by, 'token', item.token, 'reason', item.reason)
if item.args then call('HSET', KEYS[1], 'args', item.args) end
call('ZADD', KEYS[2], item.due, item.run)
call('HSET', KEYS[3], item.run, 'waiting')
call('DEL', KEYS[4])
call('HSET', KEYS[4], unpack(ARGV, 2))
call('ZADD', KEYS[6], item.due, item.run)
call('ZADD', KEYS[5], item.due, item.run)
event(KEYS[7], item.events, 'delayed', item.name, item.run)
trim(item.prefix .. ':run:', KEYS[2], KEYS[3], item.keep)
return 'won'
