-- Lets runs go that wait for parents which have succeeded: whoever settled these could not, or knew no gates. And drops
-- from the lists what waits no more.
--
-- KEYS  1 gated
-- ARGV  1 JSON {prefix, by, now, stamp, row_ttl, events, cursor, count}
--       cursor: over the parents that runs wait for, "0" at first   count: about how many of them to look at
-- Returns JSON {cursor: the next one ("0" at the end), woken: [run id…]}
--
-- One step, because the claim of a tick and the end of a run decide by the same keys: between two looks either could
-- let the same run go.
--@ open_gates

local item = cjson.decode(ARGV[1])
local found = redis.call('SSCAN', KEYS[1], item.cursor, 'COUNT', item.count)
local woken = {}
for _, parent in ipairs(found[2]) do
    for _, id in ipairs(open_gates(item, parent, true)) do woken[#woken + 1] = id end
end
return cjson.encode({cursor = found[1], woken = #woken > 0 and woken or nil})
