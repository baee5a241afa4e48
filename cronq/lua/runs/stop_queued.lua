-- Stops the runs that stand in a queue and have not begun, some in each call.
--
-- KEYS  1 rq:queue:{queue}   2 events
-- ARGV  1 JSON {prefix, by, reason, now, stamp, before, row_ttl, events, first, count}
--       before: only runs that were queued by then (epoch seconds)
--       first: the place in the queue to begin at, 0 at first   count: entries to look at
-- Returns JSON {seen: entries looked at, kept: those of them that stay in the queue, stopped: [run id…],
--               others: [run id…]}
--         others: runs that are not stopped here, because RQ jobs depend on them
--
-- What is no run of cronq's stays. A stopped run leaves no RQ job. Its id leaves the queue, unless so many entries that
-- stay stand before it that to find it would keep everybody waiting: whoever pops an id without an RQ job drops it.
--
-- A run that waited behind one that is stopped has its turn: it is queued, and stays.
--
-- One step, because a run that a worker takes between two looks must not be stopped as one that waits.
--@ event
--@ rq
--@ turn
--@ types

local item = cjson.decode(ARGV[1])
local call, rows = redis.call, item.prefix .. ':run:'
local wrong = wrong_type({KEYS[1], 'list', KEYS[2], 'stream'})
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end

local jobs = {}  -- of what was stopped

-- Returns true if it was stopped; else false, and whether RQ jobs depend on it.
local function stop(id)
    local run, hash = rows .. id, RQ .. 'job:' .. id
    local row = redis.pcall('HMGET', run, 'state', 'job', 'queued_at')
    if row.err or row[1] ~= 'queued' or not row[2] then return false end
    if (tonumber(row[3] or '') or 0) > tonumber(item.before) then return false end
    if row[3] == item.now then return false end  -- its turn has come by this stopping
    if call('EXISTS', hash .. ':dependents') == 1 then return false, true end
    call('HSET', run, 'state', 'done', 'outcome', 'stopped', 'reason', item.reason, 'decided_by', item.by,
        'ended_at', item.now)
    call('EXPIRE', run, item.row_ttl)
    event(KEYS[2], item.events, 'stopped', row[2], id, item.by)
    call('DEL', hash)
    jobs[row[2]] = true
    for _, set in ipairs({':active', ':given'}) do redis.pcall('HDEL', item.prefix .. ':job:' .. row[2] .. set, id) end
    return true
end

local found = call('LRANGE', KEYS[1], item.first, item.first + item.count - 1)
local stopped, others, left = {}, {}, 0
for _, id in ipairs(found) do
    local is_stopped, is_depended = stop(id)
    if is_stopped then
        stopped[#stopped + 1] = id
        if item.first < 1000 then left = left + call('LREM', KEYS[1], 1, id) end
    elseif is_depended then
        others[#others + 1] = id
    end
end
for job in pairs(jobs) do
    if call('EXISTS', item.prefix .. ':job:' .. job .. ':behind') == 1 then pcall(next_turn, item, job) end
end
return cjson.encode({seen = #found, kept = #found - left, stopped = #stopped > 0 and stopped or nil,
    others = #others > 0 and others or nil})
