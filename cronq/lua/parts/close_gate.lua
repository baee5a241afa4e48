--@ event
--@ gates
--@ rq
-- Part of claim: the run of a new tick waits until the parents of its job have succeeded, or until the next tick of the
-- job is due.

-- *needs* is [[parent, moment, in words, run]…]. Returns those of them that have not come to pass yet.
local function unmet(from, needs)
    local found = {}
    for _, need in ipairs(needs) do
        local reached = succeeded_until(from.prefix, need[1])
        if not reached or reached < need[2] then found[#found + 1] = need end
    end
    return found
end

-- Returns the answer of *wrong* to the first key that keeps a run from waiting for *needs*, or nil.
local function gates_wrong(from, needs, wrong)
    local bad = wrong(from.prefix .. ':gated', 'set')
    for _, need in ipairs(needs) do
        bad = bad or wrong(from.prefix .. ':job:' .. need[1] .. ':gated', 'zset')
    end
    return bad
end

-- Lists the run of *new*, which waits, with each parent that it waits for. *in_turn*: after that it may have to wait
-- for an earlier run. Returns why it waits.
local function close_gate(from, new, needs, in_turn)
    local awaited = {}
    for _, need in ipairs(needs) do
        redis.call('ZADD', from.prefix .. ':job:' .. need[1] .. ':gated', need[2], new.id)
        redis.call('SADD', from.prefix .. ':gated', need[1])
        awaited[need[1]] = {need[2], need[3], need[4]}
    end
    local state = new.key .. ':state'
    local ids = table_of(redis.call('HGET', state, 'gated'))
    ids[#ids + 1] = new.id
    redis.call('HSET', state, 'gated', cjson.encode(ids))
    local reason = 'waits for ' .. words_of_needs(awaited)
    redis.call('HSET', new.row, 'needs', cjson.encode(awaited), 'reason', reason)
    if in_turn then redis.call('HSET', new.row, 'in_turn', '1') end
    return reason
end

-- How a need stands: the outcome or the state of the run that is awaited; nil when the ledger has none of its own.
local function standing_of(prefix, need)
    local row = redis.pcall('HMGET', prefix .. ':run:' .. need[3], 'outcome', 'state')
    return not row.err and (row[1] or row[2]) or nil
end

-- The cause of a run that *needs* have blocked (runs/cause); *states* are how they stood, by the name of the parent.
-- Of very many the first ones.
local function blocked_by(needs, states)
    local words, some = {}, {}
    for parent, need in pairs(needs) do
        local tick = need[3] ~= '' and string.format('%d', need[1]) or ''
        words[#words + 1] = parent .. ':' .. tick .. ':' .. (states[parent] or '')
    end
    table.sort(words)
    for i = 1, math.min(#words, 20) do some[i] = words[i] end
    return 'blocked ' .. table.concat(some, ' ')
end

local function settle_blocked(from, job, key, id, row)
    local run = from.prefix .. ':run:' .. id
    local needs, states = read_needs(row[2]), {}
    for parent, need in pairs(needs) do states[parent] = standing_of(from.prefix, need) end
    local words = words_of_needs(needs, function(parent) return ' (' .. (states[parent] or 'not run') .. ')' end)
    local reason = 'it waited for ' .. words .. ' until its next tick fell due'
    redis.call('HSET', run, 'state', 'done', 'outcome', 'blocked', 'decided_by', from.by, 'ended_at', from.now,
        'reason', reason, 'cause', blocked_by(needs, states))
    from.blocked[#from.blocked + 1] = {id, reason}
    redis.call('HDEL', run, 'needs', 'in_turn', row[4] == 'schedule' and 'trigger' or 'needs',
        row[5] == 'default' and 'queue' or 'needs')
    redis.call('EXPIRE', run, from.row_ttl)
    redis.pcall('HDEL', key .. ':active', id)
    redis.call('DEL', RQ .. 'job:' .. id)
    leave_gates(from.prefix, id, row[2])
    event(from.stream, from.events, 'blocked', job, id)
end

-- Settles the runs of the job *key* that wait for parents, for its tick of *instant* is due. *spares*: but for
-- caught-up ones, which wait beside it. *listed* is what the state says of them.
local function block_earlier(from, job, key, listed, instant, spares)
    local left = {}
    for _, id in ipairs(table_of(listed)) do
        local row = redis.pcall('HMGET', from.prefix .. ':run:' .. tostring(id), 'state', 'needs', 'tick', 'trigger',
            'queue')
        if not row.err and row[1] == 'waiting' and row[2] then
            if spares and row[4] == 'catchup' or (tonumber(row[3] or '') or 0) >= instant then
                left[#left + 1] = id
            else
                settle_blocked(from, job, key, id, row)
            end
        end
    end
    if #left > 0 then
        redis.call('HSET', key .. ':state', 'gated', cjson.encode(left))
    else
        redis.call('HDEL', key .. ':state', 'gated')
    end
end
