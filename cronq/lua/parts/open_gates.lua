--@ gates
--@ standing
--@ turn
--@ types
-- Part of settle, mark_success and open_gates: lets runs go whose parents have succeeded.

-- Runs that one success lets go; a beat sees to the rest. A thorough look takes fewer.
local MOST_GATED, MOST_LOOKED_AT = 1000, 100

-- Queues the run *id*, whose parents have all succeeded; or has it wait behind an earlier run, where the rule of its
-- job lets ticks wait. Returns whether it was let go: with a key of a wrong type nothing is written.
local function let_go(from, id, row)
    local call, run, job = redis.call, from.prefix .. ':run:' .. id, from.prefix .. ':job:' .. row.job
    local active, behind, hash = job .. ':active', job .. ':behind', RQ .. 'job:' .. id
    local queue = row.queue or 'default'
    if not tonumber(row.tick or '') or call('EXISTS', job) == 0
            or redis.pcall('HEXISTS', from.prefix .. ':removed:' .. row.job .. ':active', id) == 1 then
        return false  -- damaged, or about to be stopped because its job was removed
    end
    if wrong_type({active, 'hash', behind, 'zset', from.prefix .. ':behind', 'set', job .. ':runs', 'zset',
            hash, 'hash', RQ .. 'queue:' .. queue, 'list', RQ .. 'queues', 'set'}) then
        return false
    end
    if row.in_turn then
        local other = standing(from.prefix .. ':run:', job, call('HLEN', active), true)
            or call('ZRANGE', behind, 0, 0)[1]
        if other then
            call('HDEL', run, 'needs', 'in_turn')
            call('HSET', run, 'reason', 'waits for the run ' .. other, 'cause', 'waits_for_run ' .. other)
            call('ZADD', behind, row.tick, id)
            call('SADD', from.prefix .. ':behind', row.job)
            return true
        end
    end
    call('HDEL', run, 'needs', 'in_turn')
    queue_waiting(from, row.job, id, queue)
    return true
end

-- Tells the runs that wait for *parent* how far it has succeeded, and lets those go that wait for nothing else.
-- *is_thorough*: entries of runs that wait no more are dropped, too. Returns the ids of those that were let go.
local function open_gates(from, parent, is_thorough)
    local call, gated = redis.call, from.prefix .. ':job:' .. parent .. ':gated'
    local gone = {}
    if wrong_type({gated, 'zset', from.prefix .. ':gated', 'set'}) then return gone end
    local reached = succeeded_until(from.prefix, parent)
    local upto = is_thorough and '+inf' or reached and string.format('%.6f', reached)
    if not upto then return gone end
    local found = call('ZRANGEBYSCORE', gated, '-inf', upto, 'WITHSCORES', 'LIMIT', 0,
        is_thorough and MOST_LOOKED_AT or MOST_GATED)
    for i = 1, #found, 2 do
        local id, run = found[i], from.prefix .. ':run:' .. found[i]
        local known = redis.pcall('HMGET', run, 'state', 'needs', 'job', 'queue', 'in_turn', 'tick')
        local needs = read_needs(not known.err and known[2])
        if known.err or known[1] ~= 'waiting' or not needs[parent] or not known[3] then
            call('ZREM', gated, id)
        elseif reached and tonumber(found[i + 1]) <= reached then
            needs[parent] = nil
            local row = {job = known[3], queue = known[4], in_turn = known[5], tick = known[6]}
            if next(needs) then
                call('HSET', run, 'needs', cjson.encode(needs), 'reason', 'waits for ' .. words_of_needs(needs))
                call('ZREM', gated, id)
            elseif let_go(from, id, row) then
                call('ZREM', gated, id)
                gone[#gone + 1] = id
            end
        end
    end
    if call('EXISTS', gated) == 0 then call('SREM', from.prefix .. ':gated', parent) end
    return gone
end
