-- Queues runs that wait behind an earlier run of their job which is not open (any more): whoever ended it knew no
-- turns, or its row is gone.
--
-- KEYS  1 behind
-- ARGV  1 JSON {prefix, now, stamp, events, cursor, count}
--       cursor: over the jobs of which runs wait, "0" at first   count: about how many jobs to look at
-- Returns JSON {cursor: the next one ("0" at the end), woken: [run id…]}
--
-- One step, because the claim of a tick and the end of a run decide by the same keys: between two looks either could
-- queue another run of the job.
--@ turn

local item = cjson.decode(ARGV[1])
local found = redis.call('SSCAN', KEYS[1], item.cursor, 'COUNT', item.count)
local woken = {}
for _, name in ipairs(found[2]) do woken[#woken + 1] = next_turn(item, name) end
return cjson.encode({cursor = found[1], woken = #woken > 0 and woken or nil})
