-- Part of claim, settle, mark_success and reset: the ticks of a job with `backfill` run one at a time, each when the
-- one before has succeeded.
--
-- The mark says which that was. While a run is in the way of the next tick, the state has `awaits`: the mark, a space,
-- and that run. Whatever lets the job go on puts it on the agenda, which says when to look again.

-- How a run can end without its work being done. Of what was never to run (paused, skipped, …) nothing is left to do.
local HALTS = {failed = true, timed_out = true, stopped = true, lost = true, expired = true, blocked = true}
-- Seconds until the next look behind an open run, and behind one that has ended badly: a process that does not know
-- of this may be who ends or mends it.
local LOOK_AGAIN, LOOK_AGAIN_BROKEN = 10, 60
-- Seconds that the row of a run lives at least while it halts its job: not for ever, for the job may be removed.
local LIFE_OF_HALTING = 400 * 86400

-- Returns the run of the tick *mark* of the job *key*, and its outcome, when it has ended without its work being done;
-- else nil.
local function halting(prefix, key, mark)
    local id = redis.call('ZRANGEBYSCORE', key .. ':runs', mark, mark)[1]
    if not id then return nil end
    local outcome = redis.pcall('HGET', prefix .. ':run:' .. id, 'outcome')
    if type(outcome) ~= 'string' or not HALTS[outcome] then return nil end
    return id, outcome
end

-- Returns an open run of a tick of the job *key*, and its state; else nil. One of a backfill counts when it is that of
-- the tick *mark*.
local function open_before(prefix, key, mark)
    local cursor = '0'
    for _ = 1, 20 do
        local found = redis.call('HSCAN', key .. ':active', cursor, 'COUNT', 100)
        cursor = found[1]
        for i = 1, #found[2], 2 do
            local id = found[2][i]
            local row = redis.pcall('HMGET', prefix .. ':run:' .. id, 'state', 'tick', 'trigger')
            local is_open = not row.err and row[1] and row[1] ~= 'done' and row[2]
            if is_open and (row[3] ~= 'backfill' or row[2] == mark) then return id, row[1] end
        end
        if cursor == '0' then break end
    end
    return nil
end

-- Returns the run that is in the way of the next tick of the job *key*, its state or outcome, and after how many
-- seconds to look again; else nil. *mark* is text.
local function in_the_way(prefix, key, mark)
    local state = key .. ':state'
    local id, word = open_before(prefix, key, mark)
    local seconds = LOOK_AGAIN
    if not id and redis.call('HGET', state, 'passed') ~= mark then
        id, word = halting(prefix, key, mark)
        seconds = LOOK_AGAIN_BROKEN
        -- The job waits for it, however long: each look gives its row a life that outlasts any time without beats.
        if id then redis.call('EXPIRE', prefix .. ':run:' .. id, LIFE_OF_HALTING) end
    end
    if not id then return nil end
    redis.call('HSET', state, 'awaits', mark .. ' ' .. id)
    return id, word, seconds
end

-- Has a beat look at the job *key* at once, when its next tick waits for the run *id*. Who may not write to the agenda
-- leaves that to beats.
local function let_go_on(prefix, key, name, id, now)
    local awaits = redis.pcall('HGET', key .. ':state', 'awaits')
    if type(awaits) == 'string' and string.match(awaits, ' (%S+)$') == id then
        redis.pcall('ZADD', prefix .. ':agenda', 'XX', 'LT', now, name)
    end
end
