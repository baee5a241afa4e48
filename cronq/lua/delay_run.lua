-- Makes one run that is due later: ledger row (waiting), RQ job (scheduled), an entry in rq-scheduler's store.
--
-- KEYS  1 job:{name}   2 run:{id}   3 job:{name}:manual   4 job:{name}:active   5 rq:job:{id}
--       6 rq:scheduler:scheduled_jobs   7 delayed   8 events
-- ARGV  1 JSON {name, run, queue, trigger, token, by, due, events, keep, args, reason}
--         due: epoch seconds   args: as in give_run.lua
--       2… field, value, … of the RQ job (binary, so not in the JSON)
-- Returns won | mine (made by an earlier call with the same token, whose reply was lost) | taken
--       | gone (no such job) | broken <key> (a wrong type; nothing was written)
--
-- One step, because a run that is in the ledger and not in the store would wait for ever, and one that is only
-- in the store would run unrecorded.
--@ why_not

local item = cjson.decode(ARGV[1])
local call = redis.call
local kinds = {'hash', 'hash', 'zset', 'hash', 'hash', 'zset', 'zset', 'stream'}
local answer = why_not(kinds, item.token)
if answer then return answer end
call('HSET', KEYS[2], 'job', item.name, 'state', 'waiting', 'trigger', item.trigger, 'queue', item.queue,
    'decided_by', item.by, 'token', item.token, 'reason', item.reason)
if item.args then call('HSET', KEYS[2], 'args', item.args) end
call('ZADD', KEYS[3], item.due, item.run)
call('DEL', KEYS[5])
call('HSET', KEYS[5], unpack(ARGV, 2))
call('HSET', KEYS[4], item.run, 'waiting')
call('ZADD', KEYS[7], item.due, item.run)
call('ZADD', KEYS[6], item.due, item.run)
call('XADD', KEYS[8], 'MAXLEN', '~', item.events, '*', 'type', 'delayed', 'job', item.name, 'run', item.run)
return 'won'
