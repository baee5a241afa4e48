-- Makes one run that is due later: ledger row (waiting), RQ job (scheduled), an entry in rq-scheduler's store.
--
-- KEYS  1 run:{id}   2 job:{name}:manual   3 job:{name}:given   4 rq:job:{id}   5 rq:scheduler:scheduled_jobs
--       6 delayed   7 events
-- ARGV  1 JSON {prefix, name, run, queue, trigger, token, by, due, events, keep, args, reason}
--         due: epoch seconds   args, keep: as in runs/enqueue.lua
--       2… field, value, … of the RQ job (binary, so not in the JSON)
-- Returns won | mine (made by an earlier call with the same token, whose reply was lost) | taken
--       | gone (no such job) | broken <key> (a wrong type; nothing was written)
--
-- One step, because a run that is in the ledger and not in the store would wait for ever, and one that is only
-- in the store would run unrecorded.
--@ event
--@ new_row
--@ trim

local item = cjson.decode(ARGV[1])
local answer = why_not(item, {KEYS[5], 'zset', KEYS[6], 'zset', KEYS[7], 'stream'})
if answer then return answer end
new_row(item, 'waiting', item.due)
new_rq_job()
redis.call('ZADD', KEYS[6], item.due, item.run)
redis.call('ZADD', KEYS[5], item.due, item.run)
event(KEYS[7], item.events, 'delayed', item.name, item.run, item.by)
trim(item.prefix .. ':run:', KEYS[2], KEYS[3], item.keep)
return 'won'
