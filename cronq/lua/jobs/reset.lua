-- Forgets how the runs of a job did: its streak, its first and last run, its last success. One whose ticks run in order
-- goes on behind a tick that did not succeed.
--
-- KEYS  1 job:{name}   2 job:{name}:state   3 events   4 job:{name}:changes   5 job:{name}:runs   6 agenda
-- ARGV  1 name   2 who does it, as JSON (parts/note_change)   3 events to keep
--       4 "1" when its ticks run in order, else ""   5 prefix   6 now (epoch seconds)
-- Returns reset | same (there was nothing to forget) | gone (no such job)
--       | broken <key> (a wrong type); of the last three nothing was written
--
-- One step, because a run that ends between two commands would leave half of what it did.
--@ event
--@ in_order
--@ note_change
--@ types

local _, wrong = wrong_type({KEYS[1], 'hash', KEYS[2], 'hash', KEYS[3], 'stream', KEYS[5], 'zset', KEYS[6], 'zset'})
if wrong then return 'broken ' .. wrong end
if redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end
local forgotten = redis.call('HDEL', KEYS[2], 'streak', 'resumed_at_streak', 'last_run', 'last_outcome', 'last_ended',
    'last_tick', 'success_tick', 'success_given', 'first_run')
local mark = ARGV[4] == '1' and tonumber(redis.call('HGET', KEYS[2], 'mark') or '')
if mark then
    mark = string.format('%d', mark)
    if redis.call('HGET', KEYS[2], 'passed') ~= mark and halting(ARGV[5], KEYS[1], mark) then
        redis.call('HSET', KEYS[2], 'passed', mark)
        redis.call('ZADD', KEYS[6], 'XX', 'LT', ARGV[6], ARGV[1])
        forgotten = forgotten + 1
    end
end
if forgotten == 0 then return 'same' end
local note = cjson.decode(ARGV[2])
event(KEYS[3], ARGV[3], 'job_reset', ARGV[1], nil, note.by)
note_change(KEYS[4], 'job_reset', note)
return 'reset'
