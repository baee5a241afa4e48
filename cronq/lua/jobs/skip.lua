-- Says which ticks of a job are to be skipped, in place of what was said before.
--
-- KEYS  1 job:{name}   2 job:{name}:state   3 events   4 job:{name}:changes
-- ARGV  1 JSON {name, version, expected, skips, until, layout, undoing, events, note}
--       skips: JSON text of the skips, "" for none   until: the last of their ticks
--       layout: what a process has to know that may serve the job now
--       undoing: what was to be skipped is not any more   note: who asks for it (parts/note_change)
-- Returns done | conflict (it is another version by now) | broken <key> (a wrong type); then nothing was written
--
-- One step, because a beat that has read the job before must not claim a tick by what it read: with the ticks the
-- version changes.
--@ event
--@ note_change
--@ types

local job = cjson.decode(ARGV[1])
local _, wrong = wrong_type({KEYS[1], 'hash', KEYS[2], 'hash', KEYS[3], 'stream'})
if wrong then return 'broken ' .. wrong end
local version = redis.call('HGET', KEYS[1], 'version') or ''
if version == job.version then return 'done' end  -- by this very call: its reply was lost
if version ~= job.expected then return 'conflict' end
redis.call('HSET', KEYS[1], 'version', job.version, 'layout', job.layout)
if job.skips ~= '' then
    redis.call('HSET', KEYS[2], 'skips', job.skips, 'skip_until', job['until'])
else
    redis.call('HDEL', KEYS[2], 'skips', 'skip_until')
end
event(KEYS[3], job.events, job.undoing and 'job_skips_undone' or 'job_skips', job.name, nil, job.note.by)
note_change(KEYS[4], job.undoing and 'job_skips_undone' or 'job_skips', job.note)
return 'done'
