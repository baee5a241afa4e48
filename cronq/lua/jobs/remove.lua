-- Removes a job: its definition, state, template and agenda entry. Running runs go on; the ledger stays for its time,
-- and the note of its own children as long as they name it.
--
-- KEYS  1 jobs   2 job:{name}   3 job:{name}:state   4 job:{name}:template   5 agenda   6 events
--       7 job:{name}:active   8 job:{name}:runs   9 job:{name}:manual   10 job:{name}:given
--       11 removals   12 removed:{name}:active   13 removed:{name}:given   14 running   15 job:{name}:behind
--       16 job:{name}:children   17 job:{name}:changes
-- ARGV  1 name   2 life of what stays (seconds)   3 events to keep   4 record of this removal (JSON, unlike any other)
--       5 "1" to remove it although other jobs name it as a parent
-- Returns removed (also when an earlier call with the same record did it, whose reply was lost) | none (no such job)
--         | unfinished (runs of an earlier removal of that name are still to be stopped: nothing was written)
--         | parent <child> (that job names it: nothing was written)
--
-- The runs that have not begun are not stopped here, for there may be 100,000: the sets of them change their names,
-- and runs/stop_all stops them piece by piece. From this step on none of them starts: runs/start looks for its run
-- there. A job that is added again under the name begins with new sets. What stands in `removals` is finished by who
-- removes that name next, or else by a beat. Keys named after a lock are not the job's: runs of other jobs may wait
-- for that lock.
--
-- One step, because a beat that claims between two of these would leave a ghost in the agenda or a run
-- of a job that nobody knows.
--@ event
--@ note_change
--@ parents
--@ types

local call = redis.call
local wrong = wrong_type({KEYS[1], 'set', KEYS[5], 'zset', KEYS[6], 'stream', KEYS[11], 'hash'})
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
local record = call('HGET', KEYS[11], ARGV[1])
if record then return record == ARGV[4] and 'removed' or 'unfinished' end
if call('EXISTS', KEYS[2]) == 0 and call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return 'none' end
local children = ARGV[5] ~= '1' and redis.pcall('HKEYS', KEYS[16]) or {}
for _, child in ipairs(children.err and {} or children) do
    if read_parents(string.sub(KEYS[2], 1, #KEYS[2] - #ARGV[1]) .. child)[ARGV[1]] then return 'parent ' .. child end
end
call('HSET', KEYS[11], ARGV[1], ARGV[4])
for open, removed in pairs({[KEYS[7]] = KEYS[12], [KEYS[10]] = KEYS[13]}) do
    if call('TYPE', open).ok == 'hash' then
        call('RENAME', open, removed)
        call('EXPIRE', removed, ARGV[2])
        -- What is at work stays open: should the job come back at once, a tick must not run beside it.
        local running = redis.pcall('ZRANGE', KEYS[14], 0, -1)
        for _, id in ipairs(running.err and {} or running) do
            if call('HDEL', removed, id) == 1 then call('HSET', open, id, 'running') end
        end
    end
end
set_parents(KEYS[2], ARGV[1], read_parents(KEYS[2]), {})
local mark = redis.pcall('HGET', KEYS[3], 'mark')
call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[15])
if type(mark) == 'string' then  -- it outlives the job, like the ledger
    call('HSET', KEYS[3], 'mark', mark)
    call('EXPIRE', KEYS[3], ARGV[2])
end
call('SREM', KEYS[1], ARGV[1])
call('ZREM', KEYS[5], ARGV[1])
for i = 7, 10 do call('EXPIRE', KEYS[i], ARGV[2]) end
local told = cjson.decode(ARGV[4])
event(KEYS[6], ARGV[3], 'job_removed', ARGV[1], nil, told.by)
note_change(KEYS[17], 'job_removed', {by = told.by, at = told.at})
call('EXPIRE', KEYS[17], ARGV[2])
return 'removed'
