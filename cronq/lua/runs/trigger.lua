-- Starts jobs that run `after` others, whose parents have all come further, and that could not be started in the step
-- that ended the last of these.
--
-- KEYS  1 untriggered
-- ARGV  1 JSON {prefix, by, now, stamp, row_ttl, events, cursor, count}
--       cursor: over the jobs to look at, "0" at first   count: about how many of them to look at
-- Returns [the next cursor ("0" at the end), [the jobs that cannot be started, for keys of theirs are damaged…]]
--
-- One step, because the end of a parent's run decides by the same keys: between two looks it could start the same job.
--@ trigger

local item = cjson.decode(ARGV[1])
item.stream, item.pushed = item.prefix .. ':events', {}
local found, broken = redis.call('SSCAN', KEYS[1], item.cursor, 'COUNT', item.count), {}
for _, child in ipairs(found[2]) do
    local fine, is_done = pcall(trigger, item, child, nil)
    if fine and is_done then redis.call('SREM', KEYS[1], child) else broken[#broken + 1] = child end
end
return {found[1], broken}
