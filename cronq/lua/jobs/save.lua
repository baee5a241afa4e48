-- Stores a job's definition, its template, its place in the agenda, and whose child it is.
--
-- KEYS  1 jobs   2 job:{name}   3 job:{name}:state   4 job:{name}:template   5 agenda   6 events
--       7 job:{name}:active   8 job:{name}:runs   9 job:{name}:manual   10 job:{name}:given   11 job:{name}:changes
-- ARGV  1 JSON {name, spec, layout, knows, version, expected, origin, source, scheduled, mark, next, events, instead,
--               keep, pause_after_failures, counts, default_tz, parents, trigger, note}
--       layout: that of the spec   skips_layout: the first in which ticks may be skipped
--       knows: the newest layout that the caller can read
--       pause_after_failures: so many, or absent: what runs/settle needs to know of the spec, like keep
--       counts: whether its ticks are counted, because they are limited
--       default_tz: the zone of the spec, when CRONQ_TZ decided it, or absent
--       parents: {name: [the options by which it is a parent]…}, see parts/parents
--       trigger: of a job with `after` what a script needs to know to claim a tick of it, as JSON text; else absent
--       note: who changes what (parts/note_change), or absent
--       scheduled: 1 when the job belongs on the agenda
--       2… field, value, … of the template
--       expected: the version it was decided on, "" for a job that must not exist yet
--       mark, next: set only when the ticks to come have changed (absent: leave as they are)
--       instead: [id, score] of the entry of rq-scheduler's store whose place the job takes, or absent; when it is no
--       longer there, nothing is written
-- Returns created | changed | same | conflict (it is another version by now; nothing was written)
--       | broken <key> (a wrong type; nothing was written)
--       | newer (a newer cronq stored the job; nothing was written)
--       | unknown <parent> | cycle <JSON> (parts/parents; nothing was written)
--
-- One step, because a spec without its mark would fire ticks from before it was saved, an agenda entry
-- without its spec is a ghost, and a parent that does not know its child would never start it. Two that store jobs
-- at the same time, each a parent of the other, would have made a cycle that neither of them saw.
--@ event
--@ note_change
--@ parents
--@ types

local job = cjson.decode(ARGV[1])
local _, wrong = wrong_type({KEYS[1], 'set', KEYS[2], 'hash', KEYS[3], 'hash', KEYS[4], 'hash', KEYS[5], 'zset',
    KEYS[6], 'stream'})
if wrong then return 'broken ' .. wrong end
for parent in pairs(job.parents) do
    local key = children_key(KEYS[2], job.name, parent)
    if not fits(key, 'hash') then return 'broken ' .. key end
end
local held = redis.call('HMGET', KEYS[2], 'version', 'spec', 'layout')
if (tonumber(held[3] or '') or 1) > job.knows then return 'newer' end
-- By this very call, whose reply was lost.
if held[1] == job.version then return job.expected == '' and 'created' or 'changed' end
if (held[1] or '') ~= job.expected then return 'conflict' end
local before = read_parents(KEYS[2])
local refused = refused_parents(KEYS[2], KEYS[1], job.name, before, job.parents)
if refused then return refused end
if job.instead then
    local score = redis.call('ZSCORE', 'rq:scheduler:scheduled_jobs', job.instead[1])
    if not score or tonumber(score) ~= tonumber(job.instead[2]) then return 'conflict' end
    redis.call('ZREM', 'rq:scheduler:scheduled_jobs', job.instead[1])
end
-- While ticks are to be skipped, processes that know nothing of that leave the job alone.
local state = redis.call('HMGET', KEYS[3], 'mark', 'skip_until')
-- A job that comes back never runs again what it had before, whatever the clock of who stores it says.
if job.mark and not held[1] then job.mark = math.max(tonumber(job.mark), tonumber(state[1] or '') or 0) end
local mark = tonumber(job.mark or state[1] or '') or 0
if (tonumber(state[2] or '') or 0) > mark then job.layout = math.max(job.layout, job.skips_layout) end
redis.call('SADD', KEYS[1], job.name)
redis.call('PERSIST', KEYS[3])
for i = 7, 11 do redis.call('PERSIST', KEYS[i]) end  -- a job that comes back: its ledger was to die with the old one
redis.call('HSET', KEYS[2], 'source', job.source, 'origin', job.origin, 'scheduled', job.scheduled,
    'layout', job.layout, 'keep', job.keep)
if job.pause_after_failures then
    redis.call('HSET', KEYS[2], 'pause_after_failures', job.pause_after_failures)
else
    redis.call('HDEL', KEYS[2], 'pause_after_failures')
end
if job.default_tz then
    redis.call('HSET', KEYS[2], 'default_tz', job.default_tz)
else
    redis.call('HDEL', KEYS[2], 'default_tz')
end
set_parents(KEYS[2], job.name, before, job.parents)
if next(job.parents) then
    redis.call('HSET', KEYS[2], 'parents', cjson.encode(job.parents))
else
    redis.call('HDEL', KEYS[2], 'parents')
end
if job.trigger then
    redis.call('HSET', KEYS[2], 'trigger', job.trigger)
    see_parents(KEYS[2], KEYS[3], job.name, job.trigger)
else
    redis.call('HDEL', KEYS[2], 'trigger')
end
redis.call('DEL', KEYS[4])
redis.call('HSET', KEYS[4], unpack(ARGV, 2))
if held[1] and held[2] == job.spec and not job.mark then return 'same' end
redis.call('HSET', KEYS[2], 'spec', job.spec, 'version', job.version)
if job.mark then
    redis.call('HSET', KEYS[3], 'mark', string.format('%d', job.mark))
    redis.call('HDEL', KEYS[3], 'decided_from', 'decided_to')
    if not job.counts then redis.call('HDEL', KEYS[3], 'ticks') end
    if job.next then
        redis.call('ZADD', KEYS[5], job.next, job.name)
    else
        redis.call('ZREM', KEYS[5], job.name)
    end
end
event(KEYS[6], job.events, held[1] and 'job_changed' or 'job_created', job.name, nil, job.note and job.note.by)
note_change(KEYS[11], held[1] and 'job_changed' or 'job_created', job.note)
return held[1] and 'changed' or 'created'
