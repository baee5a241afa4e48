-- Part of give_run and delay_run, whose first keys are the job and the row of the run. Why a run cannot be made: a key
-- is not of its kind in *kinds*, its job is gone, or it is there already; nil when nothing stands in the way.
local function why_not(kinds, token)
    for i, kind in ipairs(kinds) do
        local found = redis.call('TYPE', KEYS[i]).ok
        if found ~= 'none' and found ~= kind then return 'broken ' .. KEYS[i] end
    end
    if redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end
    local holder = redis.call('HGET', KEYS[2], 'token')
    if holder == token then return 'mine' end
    if redis.call('EXISTS', KEYS[2]) == 1 then return 'taken' end
    return nil
end
