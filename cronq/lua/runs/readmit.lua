-- Makes a new ledger row for a run that was requeued with RQ's tools after its row had expired: RQ keeps its own record
-- for longer.
--
-- KEYS  1 run:{id}   2 job:{name}:manual   3 job:{name}:given   4 rq:job:{id}   5 events
-- ARGV  1 JSON {prefix, name, run, queue, by, now, events, reason, status, args}
--       status: RQ's word for it now   args: arguments as JSON text
-- Returns won | gone (no such job) | taken (it has a row) | stale (RQ has another word for it)
--       | broken <key> (a wrong type; nothing was written)
--
-- One step, because a row that is in no list of its job would be seen by nobody, and an entry without a row is dropped.
--@ event
--@ new_row

local item = cjson.decode(ARGV[1])
local answer = why_not(item, {KEYS[5], 'stream'})
if answer then return answer end
if redis.call('HGET', KEYS[4], 'status') ~= item.status then return 'stale' end
item.queued_at, item.trigger = item.now, 'requeue'
new_row(item, 'queued', item.now)
event(KEYS[5], item.events, 'queued', item.name, item.run)
return 'won'
