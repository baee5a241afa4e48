-- Part of every script that moves a run. The HASH of its job that has it while it is open: `active` for a run of a tick,
-- which ticks that follow look at; `given` for one by hand, delayed or requeued, of which there may be 100,000.
local function open_set(prefix, job, id)
    local tick = redis.pcall('HGET', prefix .. ':run:' .. id, 'tick')  -- an error, as a table, when it is of a wrong type
    return prefix .. ':job:' .. (job or '') .. (tick and ':active' or ':given')
end
