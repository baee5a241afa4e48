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

-- The `needs` of a row, from their JSON; what nobody could have written there is left out.
local function read_needs(json)
    local needs = {}
    for parent, need in pairs(table_of(json)) do
        local moment = type(parent) == 'string' and type(need) == 'table' and tonumber(need[1])
        if moment and moment > -1e15 and moment < 1e15 then
            local words, id = need[2], need[3]
            needs[parent] = {moment, type(words) == 'string' and words or '', type(id) == 'string' and id or ''}
        end
    end
    return needs
end

local MOST_WORDS = 20  -- parents that are named in a reason

-- What a run waits for, in words. *needs* are those of its row; *told* says more of a parent, if it is given.
local function words_of_needs(needs, told)
    local words = {}
    for parent, need in pairs(needs) do
        words[#words + 1] = parent .. need[2] .. (told and told(parent) or '')
    end
    table.sort(words)
    if #words > MOST_WORDS then
        local others = #words - MOST_WORDS
        return 'its parents ' .. table.concat(words, ', ', 1, MOST_WORDS) .. ' and ' .. others .. ' others'
    end
    return (#words > 1 and 'its parents ' or 'its parent ') .. table.concat(words, ', ')
end

-- Takes a run that waits no more out of the lists of those that it waited for.
local function leave_gates(prefix, id, needs)
    for parent in pairs(read_needs(needs)) do
        redis.pcall('ZREM', prefix .. ':job:' .. parent .. ':gated', id)
    end
end
