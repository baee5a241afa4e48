-- Pauses or resumes a job.
--
-- KEYS  1 job:{name}   2 job:{name}:state   3 agenda   4 events   5 job:{name}:changes
-- ARGV  1 JSON {name, version, expected, pause, mark, next, events, note}
--       pause: JSON text of the pause, "" to resume   mark, next: the moment of the change and the tick after it
--       note: who does it (parts/note_change), or absent
-- Returns done | conflict (it is another version by now) | broken <key> (a wrong type); then nothing was written
--
-- One step, because a job that is resumed before its mark has moved would fire the ticks of its pause.
--@ event
--@ note_change
--@ types

local job = cjson.decode(ARGV[1])
local _, wrong = wrong_type({KEYS[1], 'hash', KEYS[2], 'hash', KEYS[3], 'zset', KEYS[4], 'stream'})
if wrong then return 'broken ' .. wrong end
local version = redis.call('HGET', KEYS[1], 'version') or ''
if version == job.version then return 'done' end  -- by this very call: its reply was lost
if version ~= job.expected then return 'conflict' end
redis.call('HSET', KEYS[1], 'version', job.version)
if job.pause ~= '' then
    redis.call('HSET', KEYS[2], 'pause', job.pause)
else
    redis.call('HDEL', KEYS[2], 'pause')
    -- The failures up to here pause the job no more: see parts/count_failure.lua.
    local streak = tonumber(redis.call('HGET', KEYS[2], 'streak') or '') or 0
    if streak < 0 then redis.call('HSET', KEYS[2], 'resumed_at_streak', streak) end
end
if job.mark then redis.call('HSET', KEYS[2], 'mark', job.mark) end
if job.next then redis.call('ZADD', KEYS[3], job.next, job.name) end
event(KEYS[4], job.events, job.pause ~= '' and 'job_paused' or 'job_resumed', job.name, nil, job.note and job.note.by)
note_change(KEYS[5], job.pause ~= '' and 'job_paused' or 'job_resumed', job.note)
return 'done'
