--@ rarely
--@ rq
--@ try
-- Part of settle_run: the end of a run in RQ's own records.

-- Takes the run *id* out of what is worked on, whichever execution that was: by the list of what is, which has no life
-- of its own, for the execution's record may have expired.
local function leave_any_work(wip, id)
    local begins = id .. ':'
    for _, entry in ipairs(try('ZRANGE', wip, 0, -1) or {}) do
        if string.sub(entry, 1, #begins) == begins then
            try('ZREM', wip, entry)
            try('DEL', RQ .. 'execution:' .. entry)
        end
    end
    try('DEL', RQ .. 'executions:' .. id)
end

-- Takes the run of *item* out of where RQ lists what is popped, at work or ended. *is_usual*: it was begun by this very
-- execution, in its first attempt, which is over: then it is listed as at work alone. The records of its execution are
-- deleted with its row.
local function leave_work(item, is_usual)
    local id, wip = item.run, RQ .. 'wip:' .. item.queue
    if item.execution then
        try('ZREM', wip, id .. ':' .. item.execution)
    else
        leave_any_work(wip, id)
    end
    if is_usual then return end
    try('LREM', RQ .. 'queue:' .. item.queue .. ':intermediate', 0, id)
    for _, name in ipairs({'finished', 'failed', 'canceled'}) do
        try('ZREM', RQ .. name .. ':' .. item.queue, id)  -- where an earlier attempt left it
    end
end

-- A queue is looked through only for a run that may stand in it, and only while that is quick: Redis answers nobody
-- meanwhile. In a longer one the id stays, without its RQ job: whoever pops it drops it, RQ's own tools do too.
local function leave_queue(item, hash)
    local queue = RQ .. 'queue:' .. item.queue
    if (try('LLEN', queue) or 0) <= 100000 then
        try('LREM', queue, 0, item.run)
    elseif redis.call('TYPE', hash).ok == 'hash' then
        redis.call('DEL', hash)
    end
end

-- RQ writes these for every job and reads a job without them alike: what is empty, and when one that has ended was
-- last heard of. They are a fifth of what it keeps.
local NEEDLESS = {'group_id', 'success_callback_name', 'failure_callback_name', 'stopped_callback_name'}

-- Writes into RQ's record of a run that it has ended, if there is one. Returns nothing.
local function end_record(item, hash)
    local known = redis.pcall('HMGET', hash, 'status', 'created_at', unpack(NEEDLESS))
    if known.err then return end
    if not known[1] and not known[2] and redis.call('EXISTS', hash) == 0 then return end
    redis.call('HSET', hash, 'status', item.status, 'ended_at', item.stamp)
    local needless = {'last_heartbeat'}
    for i, name in ipairs(NEEDLESS) do
        if known[i + 2] == '' then needless[#needless + 1] = name end
    end
    redis.call('HDEL', hash, unpack(needless))
    redis.call('EXPIRE', hash, item.life)
    try('ZADD', item.registry, math.floor(tonumber(item.now) + item.life), item.run)
end

local function settle_in_rq(item, hash, may_be_queued, is_usual)
    if may_be_queued then leave_queue(item, hash) end
    leave_work(item, is_usual)
    end_record(item, hash)
    if item.results then rare().keep_result(item.run, item.results, item.life) end
end
