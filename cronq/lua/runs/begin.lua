-- Begins a run that no queue carries, of a command that somebody guards with `cronq exec`: its row, at work from the
-- first, and a lock if it needs one.
--
-- KEYS  1 run:{id}   2 job:{name}:manual   3 job:{name}:given   4 running   5 events   6 guarded
-- ARGV  1 JSON {prefix, name, run, execution, worker, host, pid, by, events, row_ttl, keep, knows, silent, locks,
--               lock_ttl_ms, fence_life, group}
--       execution: random, of this run alone: the holder of its lock   keep: settled rows of this name to keep
--       silent: a guarded run that was not heard of for so long has vanished (seconds)
--       knows: the newest layout of cronq's keys that the process knows
--       group: it runs on hosts of that group alone, or absent
--       locks: names of locks of which it needs one, whichever is free; [] for none
-- Returns JSON
--       [begun, now, lock | false, fencing token as text | false, [id…]]   also for one sent again whose reply was lost
--         the ids: some earlier runs of that name that have vanished and have no outcome yet
--       [busy, ms for which the locks will be held at least (-1: no limit), lock, run | "", host | "", pid | ""]
--         all of *locks* are another's; named is who has the first: nothing was written
--       [elsewhere]   this host is not in the group   [no_group]   there is none of that name: nothing was written
--       [over]   it has begun and ended already, and this call comes late: nothing was written
--       [layout, what Redis holds]   a newer cronq has changed the keys: nothing was written
--       [broken, key, type that it should have]   nothing was written
--
-- One step, because a lock without its row would be held by nobody whom people can find, and a row without its lock
-- would be of a run that must not be at work.
--@ event
--@ groups
--@ lock_keys
--@ take_lock
--@ trim
--@ types

local item, call = cjson.decode(ARGV[1]), redis.call
local wanted = {KEYS[1], 'hash', KEYS[2], 'zset', KEYS[3], 'hash', KEYS[4], 'zset', KEYS[5], 'stream', KEYS[6], 'zset'}
for i = 1, #wanted, 2 do
    if not fits(wanted[i], wanted[i + 1]) then return cjson.encode({'broken', wanted[i], wanted[i + 1]}) end
end
local layout = redis.pcall('GET', item.prefix .. ':schema')
if type(layout) == 'string' and (tonumber(layout) or math.huge) > item.knows then
    return cjson.encode({'layout', layout})
end

if item.group then  -- before all else: a host outside leaves no trace
    local is_in = is_in_group(item.prefix, item.group, item.host)
    if not is_in then return cjson.encode({is_in == nil and 'no_group' or 'elsewhere'}) end
end

local begun, taken, token, busy = call('HMGET', KEYS[1], 'execution', 'state'), nil, nil, nil
if begun[2] and begun[2] ~= 'running' then return cjson.encode({'over'}) end

local time = call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
-- One that it has already, because the answer was lost, goes before one that has become free meanwhile: it needs one.
local locks = {}
for _, name in ipairs(item.locks) do
    local lock, fence = lock_keys(item.prefix, name)
    for key, kind in pairs({[lock] = 'string', [fence] = 'hash'}) do
        if not fits(key, kind) then return cjson.encode({'broken', key, kind}) end
    end
    table.insert(locks, call('GET', lock) == item.execution and 1 or #locks + 1, name)
end
for _, name in ipairs(locks) do
    local lock, fence = lock_keys(item.prefix, name)
    local _, owner, last, whose = look_at_lock(lock, fence)
    if not owner or owner == item.execution then
        local holder = {id = item.execution, host = item.host, pid = item.pid, run = item.run, life = item.fence_life}
        token = string.format('%.0f', take_lock(lock, fence, item.lock_ttl_ms, holder, owner, last, whose))
        taken = name
        break
    end
    local left = call('PTTL', lock)
    if not busy then
        local known = owner == whose and call('HMGET', fence, 'run_id', 'host', 'pid') or {}
        busy = {'busy', left, name, known[1] or '', known[2] or '', known[3] or ''}
    elseif left >= 0 and (busy[2] < 0 or left < busy[2]) then
        busy[2] = left
    end
end
if busy and not taken then
    if begun[1] == item.execution then  -- its lock has ended while the answer was under way
        call('DEL', KEYS[1])
        call('ZREM', KEYS[2], item.run)
        call('HDEL', KEYS[3], item.run)
        call('ZREM', KEYS[4], item.run)
    end
    return cjson.encode(busy)
end

if begun[1] ~= item.execution then
    call('HSET', KEYS[1], 'job', item.name, 'state', 'running', 'trigger', 'exec', 'attempt', 1,
        'execution', item.execution, 'queued_at', now, 'started_at', now, 'host', item.host, 'pid', item.pid,
        'worker', item.worker)
    call('ZADD', KEYS[2], now, item.run)
    call('HSET', KEYS[3], item.run, 'running')
    call('ZADD', KEYS[4], now, item.run)
    event(KEYS[5], item.events, 'started', item.name, item.run, item.by)
    -- A name has no job whose removal would end these.
    if call('EXISTS', item.prefix .. ':job:' .. item.name) == 0 then
        call('EXPIRE', KEYS[2], item.row_ttl)
        call('EXPIRE', KEYS[3], item.row_ttl)
        trim(item.prefix .. ':run:', KEYS[2], KEYS[3], item.keep)
    end
    call('ZADD', KEYS[6], now, item.name)
    call('ZREMRANGEBYSCORE', KEYS[6], '-inf', tonumber(time[1]) - item.row_ttl)
end
-- Where no beat runs, nobody else looks for them.
local vanished = {}
if call('HLEN', KEYS[3]) > 1 then
    local before = tonumber(time[1]) - item.silent
    for i, id in ipairs(call('HSCAN', KEYS[3], '0', 'COUNT', 20)[2]) do
        local seen = i % 2 == 1 and call('ZSCORE', KEYS[4], id)
        if seen and tonumber(seen) < before then
            local row = redis.pcall('HMGET', item.prefix .. ':run:' .. id, 'state', 'trigger')
            if row[1] == 'running' and row[2] == 'exec' then vanished[#vanished + 1] = id end
        end
    end
end
local answer = cjson.encode({'begun', now, taken or false, token or false})
return #vanished == 0 and answer or string.sub(answer, 1, -2) .. ',' .. cjson.encode(vanished) .. ']'
