-- Part of give_run, delay_run and readmit_run, whose first key is the row of the run. Why a run cannot be made: a key is not
-- of its kind in *kinds*, its job is gone, or it is there already; nil when nothing stands in the way. The key *job* is only
-- read, so it is none of KEYS: those must be open for writing to who calls, and who may queue runs need not define jobs.
local function why_not(kinds, job, token)
    local defined = redis.call('TYPE', job).ok
    if defined ~= 'none' and defined ~= 'hash' then return 'broken ' .. job end
    for i, kind in ipairs(kinds) do
        local found = redis.call('TYPE', KEYS[i]).ok
        if found ~= 'none' and found ~= kind then return 'broken ' .. KEYS[i] end
    end
    if defined == 'none' then return 'gone' end
    local holder = redis.call('HGET', KEYS[1], 'token')
    if holder == token then return 'mine' end
    if redis.call('EXISTS', KEYS[1]) == 1 then return 'taken' end
    return nil
end
