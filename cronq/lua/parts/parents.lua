-- Part of the scripts that write which jobs are children of which. The hash of a job has its parents under `parents`,
-- JSON {name: [the options that name it]…}; each parent has the job in the hash of its children, with the same list.

-- The key of the children of *parent*, by the key of the job *name*.
local function children_key(job, name, parent)
    return string.sub(job, 1, #job - #name) .. parent .. ':children'
end

-- The parents that the hash *job* has; none when that cannot be read. At most 2,000 (jobs/parents.py).
local function read_parents(job)
    local held = redis.pcall('HGET', job, 'parents')
    local fine, found = pcall(cjson.decode, type(held) == 'string' and held or '{}')
    return fine and type(found) == 'table' and found or {}
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
