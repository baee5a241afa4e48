-- Notes what a worker of a host runs, unless the last note on the same modules there says the same.
--
-- KEYS  1 deploys (LIST, newest first)
-- ARGV  1 JSON {at, host, modules, revision, code, version} (hosts/deploys)   2 how many are kept
-- Returns 1 when it was noted, else 0
--
-- One step, because many workers of a host begin at once: one of them notes it.
--@ types

local new = cjson.decode(ARGV[1])
if not fits(KEYS[1], 'list') then return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' is not a list') end
for _, raw in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    local fine, known = pcall(cjson.decode, raw)
    if fine and type(known) == 'table' and known.host == new.host and known.modules == new.modules then
        local is_same = known.revision == new.revision and known.code == new.code and known.version == new.version
        if is_same then return 0 end
        break
    end
end
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[2]) - 1)
return 1
