-- Part of the scripts that write which jobs are children of which. The hash of a job has its parents under `parents`,
-- JSON {name: [the options that name it]…}; each parent has the job in the hash of its children, with the same list.

-- The key of the children of *parent*, by the key of the job *name*.
local function children_key(job, name, parent)
    return string.sub(job, 1, #job - #name) .. parent .. ':children'
end

-- The parents that the hash *job* has; none when that cannot be read. At most 2,000 (jobs/parents).
local function read_parents(job)
    local held = redis.pcall('HGET', job, 'parents')
    local fine, found = pcall(cjson.decode, type(held) == 'string' and held or '{}')
    local parents = {}
    for parent, options in pairs(fine and type(found) == 'table' and found or {}) do
        if type(parent) == 'string' and type(options) == 'table' then parents[parent] = options end
    end
    return parents
end

-- Why the job *name* must not get the parents *wanted* in place of *before*: `unknown <parent>`, or `cycle` with its
-- jobs as JSON, [[job, the option by which it names the next]…], the last of which names the first; nil when it may.
-- What it has by now it may keep. *jobs* is the key of all names. Looks at each ancestor once; at none when the job is
-- nobody's parent, as when jobs are stored parents first.
local function refused_parents(job, jobs, name, before, wanted)
    local came, todo = {}, {}  -- job -> the child and the option by which it was reached
    for parent, options in pairs(wanted) do
        if not before[parent] then
            local key = string.sub(job, 1, #job - #name) .. parent
            if redis.call('EXISTS', key) + redis.call('SISMEMBER', jobs, parent) == 0 then
                return 'unknown ' .. parent
            end
            came[parent] = {name, options[1]}
            todo[#todo + 1] = parent
        end
    end
    if redis.call('EXISTS', children_key(job, name, name)) == 0 then return nil end
    local i = 1
    while todo[i] do
        local at = todo[i]
        for parent, options in pairs(read_parents(string.sub(job, 1, #job - #name) .. at)) do
            if parent == name then
                local back, cycle = {{at, options[1]}}, {}
                while at ~= name do
                    back[#back + 1] = came[at]
                    at = came[at][1]
                end
                for step = #back, 1, -1 do cycle[#cycle + 1] = back[step] end
                return 'cycle ' .. cjson.encode(cycle)
            elseif not came[parent] then
                came[parent] = {at, options[1]}
                todo[#todo + 1] = parent
            end
        end
        i = i + 1
    end
    return nil
end

-- Each of *wanted* gets the child *name*; what is in *before* and not in *wanted* loses it.
local function set_parents(job, name, before, wanted)
    for parent in pairs(before) do
        if not wanted[parent] then redis.pcall('HDEL', children_key(job, name, parent), name) end
    end
    for parent, options in pairs(wanted) do
        redis.call('HSET', children_key(job, name, parent), name, cjson.encode(options))
    end
end

-- Notes how far the parents have come that the job waits for from now on, in its *state*: only what they do after this
-- starts it. What it has seen of others it has named before stays.
local function see_parents(job, state, name, trigger)
    local begins = string.sub(job, 1, #job - #name)
    local held = redis.call('HGET', state, 'seen')
    local fine, before = pcall(cjson.decode, held or '{}')
    local seen = {}
    for _, parent in ipairs(cjson.decode(trigger).after) do
        seen[parent] = fine and type(before) == 'table' and before[parent] or nil
        if not seen[parent] then
            local known = redis.pcall('HMGET', begins .. parent .. ':state', 'successes', 'endings')
            if known.err then known = {} end
            seen[parent] = {tonumber(known[1] or '') or 0, tonumber(known[2] or '') or 0}
        end
    end
    redis.call('HSET', state, 'seen', cjson.encode(seen))
end
