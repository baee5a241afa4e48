--@ types
-- Part of enqueue, delay and readmit, whose first key is the row of the run. Returns why a run cannot be made: a key of
-- *wanted* is of a wrong type, its job is gone, or it is there already; nil when nothing stands in the way. The key *job* is
-- only read, so it is none of KEYS: those must be open for writing to who calls, and who may queue runs need not define jobs.
local function why_not(wanted, job, token)
    local _, wrong = wrong_type({job, 'hash', unpack(wanted)})
    if wrong then return 'broken ' .. wrong end
    if redis.call('EXISTS', job) == 0 then return 'gone' end
    local holder = redis.call('HGET', KEYS[1], 'token')
    if holder == token then return 'mine' end
    if redis.call('EXISTS', KEYS[1]) == 1 then return 'taken' end
    return nil
end
