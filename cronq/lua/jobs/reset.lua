-- Forgets how the runs of a job did: its streak, its first and last run, its last success.
--
-- KEYS  1 job:{name}   2 job:{name}:state   3 events   4 job:{name}:changes
-- ARGV  1 name   2 who does it, as JSON (parts/note_change)   3 events to keep
-- Returns reset | same (there was nothing to forget) | gone (no such job)
--       | broken <key> (a wrong type); of the last three nothing was written
--
-- One step, because a run that ends between two commands would leave half of what it did.
--@ event
--@ note_change
--@ types

local _, wrong = wrong_type({KEYS[1], 'hash', KEYS[2], 'hash', KEYS[3], 'stream'})
if wrong then return 'broken ' .. wrong end
if redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end
local forgotten = redis.call('HDEL', KEYS[2], 'streak', 'resumed_at_streak', 'last_run', 'last_outcome', 'last_ended',
    'last_tick', 'success_tick', 'success_given', 'first_run')
if forgotten == 0 then return 'same' end
local note = cjson.decode(ARGV[2])
event(KEYS[3], ARGV[3], 'job_reset', ARGV[1], nil, note.by)
note_change(KEYS[4], 'job_reset', note)
return 'reset'
