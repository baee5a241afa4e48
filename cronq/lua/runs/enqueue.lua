-- Queues one run that has no tick (by hand, through the API): ledger row, RQ job, push and the set of open ones.
--
-- KEYS  1 run:{id}   2 job:{name}:manual   3 job:{name}:given   4 rq:job:{id}   5 rq:queue:{queue}
--       6 rq:queues   7 events
-- ARGV  1 JSON {prefix, name, run, queue, trigger, token, by, now, events, keep, args, reason, if_idle}
--         args: arguments as JSON text, absent: the job's own   keep: settled rows of this kind to keep
--         if_idle: only when no run of the job is open
--       2… field, value, … of the RQ job (binary, so not in the JSON)
-- Returns won | mine (claimed by an earlier call with the same token, whose reply was lost) | taken
--       | gone (no such job) | open <id> (that run of the job is, and nothing was written)
--       | broken <key> (a wrong type; nothing was written)
--
-- One step, for the same reasons as runs/claim.lua; there is no mark and no dedup key, the ledger row is the guard.
-- Two that ask at the same time for a run of an idle job get one.
--@ event
--@ new_row
--@ open_run
--@ push
--@ trim

local item = cjson.decode(ARGV[1])
local answer = why_not(item, {KEYS[5], 'list', KEYS[6], 'set', KEYS[7], 'stream'})
if answer then return answer end
local open = item.if_idle and open_run(item.prefix .. ':run:', item.prefix .. ':job:' .. item.name)
if open then return 'open ' .. open end
item.queued_at = item.now
new_row(item, 'queued', item.now)
new_rq_job()
push(item.prefix, item.queue, 'RPUSH', {item.run})
event(KEYS[7], item.events, 'queued', item.name, item.run, item.by)
trim(item.prefix .. ':run:', KEYS[2], KEYS[3], item.keep)
return 'won'
