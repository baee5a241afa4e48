-- Part of every script that moves a run. Returns the HASH of its job that lists it while it is open: `active` for a
-- run of a tick, which ticks that follow look at; `given` for one by hand, delayed or requeued, of which there may be
-- 100,000.
local function open_set(prefix, job, id)
    local tick = redis.pcall('HGET', prefix .. ':run:' .. id, 'tick')  -- of a wrong type: an error, which is a table
    return prefix .. ':job:' .. (job or '') .. (tick and ':active' or ':given')
end
