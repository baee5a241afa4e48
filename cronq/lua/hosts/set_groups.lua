-- Stores groups of hosts, in place of those of these names or of all.
--
-- KEYS  1 groups (HASH)   2 events (STREAM)
-- ARGV  1 JSON {groups: {name: "entry entry…"}, gone: [name…], all, by, events}
--       groups: what is stored   gone: names that are removed   all: true to remove whatever is not in groups
--       events: so many are kept
-- Returns {name of each group that is another now…}. A key of a wrong type: an error that names it, and nothing was
-- written.
--
-- One step, because a job that is moved from one group to another must not be in both, or in none, in between.
--@ event
--@ types

local item, call = cjson.decode(ARGV[1]), redis.call
local wrong = wrong_type({KEYS[1], 'hash', KEYS[2], 'stream'})
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
local changed = {}
local gone = item.gone
if item.all then
    for _, name in ipairs(call('HKEYS', KEYS[1])) do
        if not item.groups[name] then gone[#gone + 1] = name end
    end
end
for _, name in ipairs(gone) do
    if call('HDEL', KEYS[1], name) == 1 then
        changed[#changed + 1] = name
        event(KEYS[2], item.events, 'group_removed', name, nil, item.by, 'group')
    end
end
for name, members in pairs(item.groups) do
    if call('HGET', KEYS[1], name) ~= members then
        call('HSET', KEYS[1], name, members)
        changed[#changed + 1] = name
        event(KEYS[2], item.events, 'group_set', name, nil, item.by, 'group')
    end
end
return changed
