-- Part of close_gate and open_gates: runs that wait for the parents of their job.
--
-- Such a run has in its row what it waits for (`needs`, JSON: parent -> {moment up to which it must have succeeded, the
-- same in words, run that is awaited or ""}), and stands in `job:{parent}:gated` by that moment, the parent in `gated`.
-- The state of a child names its runs that wait (`gated`, JSON: a list of ids), for the child's next tick blocks them.

-- The moment up to which *parent* has succeeded: the newest tick that has, or the start of a run without one.
local function succeeded_until(prefix, parent)
    local known = redis.pcall('HMGET', prefix .. ':job:' .. parent .. ':state', 'success_tick', 'success_given')
    if known.err then return nil end
    local tick, given = tonumber(known[1] or ''), tonumber(known[2] or '')
    return tick and given and math.max(tick, given) or tick or given
end

local function table_of(json)
    local fine, found = pcall(cjson.decode, type(json) == 'string' and json or '')
    return fine and type(found) == 'table' and found or {}
end

-- What a run waits for, in words. *needs* is that of its row; *told* says more of a parent, if it is given.
local function words_of_needs(needs, told)
    local words = {}
    for parent, need in pairs(needs) do
        if type(need) ~= 'table' then need = {} end
        words[#words + 1] = tostring(parent) .. (need[2] or '') .. (told and told(parent) or '')
    end
    table.sort(words)
    return (#words > 1 and 'its parents ' or 'its parent ') .. table.concat(words, ', ')
end

-- Takes a run that waits no more out of the lists of those that it waited for.
local function leave_gates(prefix, id, needs)
    for parent in pairs(table_of(needs)) do
        redis.pcall('ZREM', prefix .. ':job:' .. tostring(parent) .. ':gated', id)
    end
end
