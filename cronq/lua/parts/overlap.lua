--@ overtake
--@ pauses
--@ standing
--@ ticks
-- Part of claim: what becomes of a new tick by the rule of `overlap` while runs of earlier ticks of its job are open.
-- *from* and *new* are those of the part `ticks`; *new* names its rule, `overlap`.

local MAY_WAIT = {queue = true, latest = true, replace = true}  -- rules by which a tick may wait for an earlier one

-- The open run that the next tick of a job waits behind: the last one that waits itself, else one that is queued or
-- at work.
local function last_open(from, new, open)
    local behind = new.key .. ':behind'
    for _ = 1, 20 do
        local id = redis.call('ZREVRANGE', behind, 0, 0)[1]
        if not id then break end
        if redis.pcall('HGET', from.prefix .. ':run:' .. id, 'state') == 'waiting' then return id end
        redis.call('ZREM', behind, id)  -- it was settled or begun by a process that knows no turns
    end
    return (standing(from.prefix .. ':run:', new.key, open, true))
end

-- Why the queued run *id* is not begun, when its queue is paused, in words and as a cause; nil when it is not.
local function paused_queue(from, id)
    local queue = redis.pcall('HGET', from.prefix .. ':run:' .. id, 'queue')
    if type(queue) ~= 'string' then queue = 'default' end
    local raw = redis.pcall('HGET', from.prefix .. ':holds', 'queue:' .. queue)
    if type(raw) ~= 'string' then return nil end
    local holder = holder_of(raw)
    return 'the queue ' .. queue .. ' is paused' .. holder .. '; the run ' .. id .. ' waits in it',
        'queue_paused ' .. queue .. ' ' .. id
end

-- Returns the outcome of *new*, its reason and its cause (runs/cause) when it does not run beside the *open* ones, else
-- nil.
local function overlap_outcome(from, new, open)
    if new.overlap ~= 'skip' then return nil end
    local other, doing = standing(from.prefix .. ':run:', new.key, open)
    if not other then return nil end
    if doing == 'queued' then
        local paused, cause = paused_queue(from, other)
        if paused then return 'paused', paused, cause end
    end
    return 'skipped', 'the run ' .. other .. ' was still ' .. doing, 'overlap ' .. other .. ' ' .. doing
end

-- Returns the run that *new* waits for, or nil; for a rule by which only the newest runs also the runs whose place it
-- takes, and those before it that have begun.
local function place_in_turn(from, new, open)
    new.replaces = new.overlap == 'replace'  -- for each anew: claim uses one table for all
    if new.overlap == 'queue' then return last_open(from, new, open) end
    local overtaken, before = earlier_runs(from, new)
    return before[1] and before[1].id, overtaken, before
end

-- Writes the run of *new*, which waits for an earlier one or is queued; *open* are those that are open. Returns why it
-- waits, or nil.
local function open_in_turn(from, new, reason, open)
    local waits_for, overtaken, before
    if open > 0 and MAY_WAIT[new.overlap] then waits_for, overtaken, before = place_in_turn(from, new, open) end
    local has_place = overtaken and overtake(from, new, overtaken, not waits_for)
    if not waits_for then
        open_tick(from, new, false, reason)
        if not has_place then line_up(from, new) end  -- else it stands where a run stood that it has overtaken
        return nil
    end
    reason = 'waits for the run ' .. waits_for
    if new.replaces then
        ask_to_stop(from, new, before)
        reason = reason .. ', which is to stop'
    end
    open_tick(from, new, true, reason, 'waits_for_run ' .. waits_for)
    redis.call('ZADD', new.key .. ':behind', new.tick, new.id)
    redis.call('SADD', from.prefix .. ':behind', new.job)
    return reason
end
