--@ overlap
--@ pauses
--@ push
--@ rq
--@ ticks
--@ times
--@ types
-- Part of settle, mark_success and trigger: starts the jobs that run `after` others.
--
-- A parent counts in its state how often it has succeeded (`successes`) and ended (`endings`), for as long as it has
-- children. A child has in its own how far each parent had come when it was last started (`seen`, JSON: parent ->
-- {successes, endings}), so it runs when all have come further since then: numbers, not times, for clocks of workers
-- differ. What it needs to be started stands in its hash (`trigger`, JSON: {after, on_parent_failure, queue, overlap,
-- keep}).
--
-- A count begins with the time of the server, in milliseconds: of a parent that came back after its removal, or whose
-- state was lost, none is like one that was seen before.

-- A mark that far in the future is none: ticks of a job are counted on by one only while several start in a second.
local MOST_AHEAD = 366 * 86400

local function object_of(json)
    local fine, found = pcall(cjson.decode, type(json) == 'string' and json or '')
    return fine and type(found) == 'table' and found or {}
end

-- How far *parent* has come: {successes, endings}.
local function count_of(prefix, parent)
    local known = redis.pcall('HMGET', prefix .. ':job:' .. tostring(parent) .. ':state', 'successes', 'endings')
    if known.err then return {0, 0} end
    return {tonumber(known[1] or '') or 0, tonumber(known[2] or '') or 0}
end

-- Returns how far each of the parents has come, or nil when one of them has come no further than it was *seen*.
local function all_further(prefix, card, seen)
    local which, counts = card.on_parent_failure == 'run' and 2 or 1, {}
    for _, parent in ipairs(card.after) do
        local count, before = count_of(prefix, parent), seen[parent]
        local had = type(before) == 'table' and tonumber(before[which]) or 0
        if count[which] == 0 or count[which] == had then return nil end
        counts[parent] = count
    end
    return counts
end

-- The first second from *first* on that is no tick of the job yet.
local function free_tick(prefix, child, first)
    for tick = first, first + 100 do
        if redis.call('EXISTS', prefix .. ':run:' .. child .. '-' .. tick_stamp(tick)) == 0 then return tick end
    end
    return nil
end

-- As `jobs.pause.Pause.reason` tells it.
local function pause_words(pause)
    local holder, held = holder_of(pause)
    local since = tonumber(held.since)
    return 'paused' .. (since and ' since ' .. iso(math.floor(since)) or '') .. holder
end

-- What the job with the hash *key* needs to be started; nil when it runs after nobody, false when that is damaged.
local function read_card(key)
    local held = redis.pcall('HGET', key, 'trigger')
    if not held then return nil end
    local card = object_of(held)
    local is_whole = type(card.after) == 'table' and card.after[1] and type(card.queue) == 'string'
        and type(card.overlap) == 'string' and type(card.keep) == 'number'
    return is_whole and card or false
end

-- The earliest tick that a start now may have, behind *mark*; a mark that is lost or beyond sense does not count.
local function first_tick(now, mark)
    now = math.floor(tonumber(now))
    return mark and mark >= now and mark < now + MOST_AHEAD and math.floor(mark) + 1 or now
end

-- Makes a tick of the job *child*, of *card*, and its run. *reason*: why it is queued. Returns false when a key is of a
-- wrong type: then nothing is written.
local function start_child(from, child, card, mark, pause, counts, reason)
    local call, key = redis.call, from.prefix .. ':job:' .. child
    local tick = free_tick(from.prefix, child, first_tick(from.now, mark))
    if not tick then return false end
    local id = child .. '-' .. tick_stamp(tick)
    local new = {job = child, id = id, tick = string.format('%d', tick), description = child .. in_description(tick),
        queue = card.queue, trigger = 'after', overlap = card.overlap, keep = card.keep, key = key,
        row = from.prefix .. ':run:' .. id, active = key .. ':active', index = key .. ':runs',
        hash = RQ .. 'job:' .. id}
    if wrong_type({new.active, 'hash', new.index, 'zset', key .. ':behind', 'zset', from.prefix .. ':behind', 'set',
            from.stream, 'stream', RQ .. 'queues', 'set', RQ .. 'queue:' .. new.queue, 'list'}) then
        return false
    end
    new.known = call('ZCARD', new.index)
    local open, outcome, why, cause = call('HLEN', new.active), nil, nil, nil
    if pause and covers(pause, tick) then
        outcome, why = 'paused', pause_words(pause)
    elseif open > 0 then
        outcome, why, cause = overlap_outcome(from, new, open)
    end
    if outcome then
        record_outcome(from, new, outcome, why, nil, cause)
    elseif bad_template(key, new.queue) then
        return false
    else
        open_in_turn(from, new, reason, open)
        for queue, ids in pairs(from.pushed) do push(from.prefix, queue, 'RPUSH', ids) end
        from.pushed = {}
    end
    call('HSET', key .. ':state', 'mark', new.tick, 'seen', cjson.encode(counts))
    return true
end

-- Starts the job *child* if all of its parents have come further since it was last started. *last*: the run that did it
-- in the end, or nil. Returns false when it should be started and cannot be.
local function trigger(from, child, last)
    local key = from.prefix .. ':job:' .. child
    local card = read_card(key)
    if not card then return card == nil end
    local known = redis.pcall('HMGET', key .. ':state', 'mark', 'pause', 'seen')
    if known.err then return false end
    local counts = all_further(from.prefix, card, object_of(known[3]))
    if not counts then return true end
    local reason = last and 'after the run ' .. last or nil
    return start_child(from, child, card, tonumber(known[1] or ''), known[2], counts, reason)
end

-- Counts one more success or ending of a job, in its *state*.
local function count_one(state, name)
    local time = redis.call('TIME')
    local first = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
    if redis.call('HSETNX', state, name, first) == 1 then return end
    local count = redis.pcall('HINCRBY', state, name, 1)
    if type(count) == 'table' then redis.call('HSET', state, name, first) end  -- it held no number
end

-- Has the children of *parent* that it is the last to keep waiting started, for its run *id* has ended with *outcome*.
-- Those that cannot be are named in `untriggered`: a beat tries again. Where the hash of its children has another type,
-- it counts all the same, and the audit names them there. *has_ended*: it was called lost before, which has counted as
-- an end of it.
local function trigger_children(from, parent, id, outcome, has_ended)
    local call, key = redis.call, from.prefix .. ':job:' .. parent
    local children = redis.pcall('HGETALL', key .. ':children')
    if #children == 0 and not children.err or not fits(key .. ':state', 'hash') then return end
    if outcome == 'succeeded' then count_one(key .. ':state', 'successes') end
    if not has_ended then count_one(key .. ':state', 'endings') end
    from.stream, from.pushed = from.prefix .. ':events', {}
    for i = 1, #children, 2 do
        if string.find(children[i + 1], '"after"', 1, true) then
            local fine, is_done = pcall(trigger, from, children[i], id)
            if not (fine and is_done) then redis.pcall('SADD', from.prefix .. ':untriggered', children[i]) end
        end
    end
end
