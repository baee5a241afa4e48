-- Makes the ledger row of a run anew that was requeued with RQ's tools after its row had ended: RQ keeps its own record
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
--@ why_not

local item = cjson.decode(ARGV[1])
local call = redis.call
local answer = why_not({KEYS[1], 'hash', KEYS[2], 'zset', KEYS[3], 'hash', KEYS[4], 'hash', KEYS[5], 'stream'},
    item.prefix .. ':job:' .. item.name, '')
if answer then return answer end
if call('HGET', KEYS[4], 'status') ~= item.status then return 'stale' end
call('HSET', KEYS[1], 'job', item.name, 'state', 'queued', 'trigger', 'requeue', 'queue', item.queue,
    'queued_at', item.now, 'decided_by', item.by, 'reason', item.reason, 'args', item.args)
call('ZADD', KEYS[2], item.now, item.run)
call('HSET', KEYS[3], item.run, 'queued')
event(KEYS[5], item.events, 'queued', item.name, item.run)
return 'won'
