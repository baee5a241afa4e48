-- Looks at runs that wait or retry, and lists those that nobody would wake again: the lists that tell of them were
-- lost.
--
-- KEYS  1 waiting   2 delayed   3 rq:scheduler:scheduled_jobs   4 behind   5 retries
--       6 gated
-- ARGV  1 prefix   2 now (epoch seconds)   3… run ids
-- Returns {[[run id, what it waits for]…], [[key, its type]…]}: those that were in no list, `lock <name>`, `time`,
--         `turn`,
--         `parents` or `next attempt`; and keys of a wrong type, with what they should be: they keep runs from being
--         listed until they are quarantined
--
-- A run that waits for a lock belongs into the list of that lock, and the lock into `waiting`; the sweep wakes it from
-- there when the lock is free. One that waits for its time belongs into `delayed`, where it is noticed that
-- rq-scheduler's store has lost it. One that waits behind an earlier run of its job belongs into the list of that job,
-- and the job into `behind`. One that waits for its next attempt belongs into `retries`.
--
-- One step, because a run is woken, parked and settled between any two commands: one that is put into a list after it
-- was woken would be woken twice.
--@ gates
--@ types

local call, prefix = redis.call, ARGV[1]
local broken = {}
local function can_write(key, kind)
    if fits(key, kind) then return true end
    broken[#broken + 1] = {key, kind}
    return false
end
local can_list = can_write(KEYS[1], 'set')
local can_delay = can_write(KEYS[2], 'zset') and can_write(KEYS[3], 'zset')

-- The lock that runs of a job need now. That it may have been another when the run was parked does no harm: once woken
-- it takes the one that its job names.
local function lock_of(job)
    local spec = redis.pcall('HGET', prefix .. ':job:' .. job, 'spec')
    local fine, known = pcall(cjson.decode, type(spec) == 'string' and spec or '')
    return fine and type(known) == 'table' and type(known.lock) == 'string' and known.lock or job
end

local function list(id, job)
    local lock = lock_of(job)
    local waiting = prefix .. ':job:' .. lock .. ':waiting'
    if not can_list or not can_write(waiting, 'zset') then return nil end
    local is_new = call('ZADD', waiting, 'NX', ARGV[2], id)
    return call('SADD', KEYS[1], lock) + is_new > 0 and 'lock ' .. lock or nil
end

local function delay(id)
    if not can_delay or call('ZSCORE', KEYS[2], id) then return nil end
    call('ZADD', KEYS[2], call('ZSCORE', KEYS[3], id) or ARGV[2], id)
    return 'time'
end

-- A run that waits for parents belongs into the list of each, these into `gated`, and the run into the state of its
-- job.
local can_be_gated = can_write(KEYS[6], 'set')
local function list_needs(id, job, json)
    local state = prefix .. ':job:' .. job .. ':state'
    if not can_be_gated or not can_write(state, 'hash') then return nil end
    local is_new = 0
    for parent, need in pairs(read_needs(json)) do
        local gated = prefix .. ':job:' .. parent .. ':gated'
        if not can_write(gated, 'zset') then return nil end
        is_new = is_new + call('ZADD', gated, 'NX', need[1], id) + call('SADD', KEYS[6], parent)
    end
    local ids = table_of(call('HGET', state, 'gated'))
    local is_named = false
    for _, each in ipairs(ids) do is_named = is_named or each == id end
    if not is_named then
        ids[#ids + 1] = id
        call('HSET', state, 'gated', cjson.encode(ids))
    end
    return (is_new > 0 or not is_named) and 'parents' or nil
end

local can_be_behind = can_write(KEYS[4], 'set')
local function line_up(id, job, tick)
    local behind = prefix .. ':job:' .. job .. ':behind'
    if not can_write(behind, 'zset') or not can_be_behind then return nil end
    return call('ZADD', behind, 'NX', tick, id) + call('SADD', KEYS[4], job) > 0 and 'turn' or nil
end

local function list_retry(id, due)
    if not can_write(KEYS[5], 'zset') or call('ZSCORE', KEYS[5], id) then return nil end
    call('ZADD', KEYS[5], tonumber(due or '') and due or ARGV[2], id)
    return 'next attempt'
end

local mended = {}
for i = 3, #ARGV do
    local id = ARGV[i]
    local row = redis.pcall('HMGET', prefix .. ':run:' .. id, 'state', 'job', 'reason', 'trigger', 'tick', 'retry_at',
        'needs', 'cause', 'lock')
    local what
    if not row.err and row[1] == 'waiting' and row[2] then
        if row[9] or row[3] == 'its lock is busy' then what = list(id, row[2])
        elseif row[4] == 'delayed' then what = delay(id)
        elseif row[7] then what = list_needs(id, row[2], row[7])
        elseif tonumber(row[5] or '') and (string.find(row[8] or '', 'waits_for_run ', 1, true) == 1
                or string.find(row[3] or '', 'waits for the run ', 1, true) == 1) then
            what = line_up(id, row[2], row[5])
        end
    elseif not row.err and row[1] == 'retrying' then
        what = list_retry(id, row[6])
    end
    if what then mended[#mended + 1] = {id, what} end
end
return {mended, broken}
