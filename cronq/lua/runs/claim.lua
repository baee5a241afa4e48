-- Claims ticks: for each the dedup key, the ledger row, the RQ job, the push, the active set, the mark and the
-- next due time, or nothing of it.
--
-- KEYS  1 agenda   2 events   3 rq:queues   (the others are built from the items: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, token, by, now, stamp, row_ttl, events, ticks, kinds, items}
--         now: epoch seconds   stamp: the same as RQ writes times   by: who claims   row_ttl: seconds
--         ticks: [{tick, in_id, in_description: how it stands there}…]
--         kinds: [{queue, dedup_life: seconds, overlap, keep: rows (a number), trigger}…]
--         items: [[job, version, number of its tick, next tick or false, number of its kind,
--                  outcome or false (then it is queued), reason or false,
--                  and for a range [oldest tick, count, mark it begins after (a number), schedule as JSON], else false,
--                  and only when the ticks of the job are counted: how many it has had with this one]…],
--                  oldest tick of a job first; the tick of a range is its newest
--         All other numbers are text: handed on as they are, they need not be printed again for every command.
-- Returns "queued" when all were won and queued, as on most days; else JSON: for each item, in order,
--         [code, detail, …]
--         won      claimed by this call: "queued"; "waiting", and for which run; or the outcome that was recorded, and
--                  its reason
--         mine     claimed by an earlier call with the same token, whose reply was lost
--         taken    claimed by somebody else; a mark that lagged behind was moved
--         old      the mark is already past it          stale   the job was changed or paused since it was read
--         gone     there is no such job (any more)      future  later than the server's time
--         moved    the mark is not where this range begins: decide anew
--         apart    a range whose newest tick has a row of its own: decide anew, with that tick apart
--         held     an earlier tick of the job is broken, or its range was not claimed: this one waits for it
--         broken   a key it needs has a wrong type or value, nothing was written: why, the key, and the type it
--                  should have ("" when the type is right and the value is not)
--
-- One step, because a beat may die between any two commands and several beats claim the same tick: dedup key
-- and mark without the push would lose it, the push without them would double it. Lua is not rolled back when
-- a command fails half-way, so each key is read before the first write of an item, by a command that fails on
-- a wrong type: one look for type and value. The dedup key alone is set first and taken back when the item
-- turns out not to be claimed. Pushes and agenda entries are collected and sent at the end.
--@ event
--@ overtake
--@ push
--@ refusal
--@ rq
--@ standing
--@ trim
--@ types

local batch = cjson.decode(ARGV[1])
local prefix, token, now, stamp, by = batch.prefix, batch.token, batch.now, batch.stamp, batch.by
local agenda, events, queues = KEYS[1], KEYS[2], KEYS[3]
local call, try, format = redis.call, redis.pcall, string.format
local latest = tonumber(call('TIME')[1]) + 1
local job_prefix, run_prefix, dedup_prefix = prefix .. ':job:', prefix .. ':run:', prefix .. ':dedup:'

local queued = {'won', 'queued'}
local may_wait = {queue = true, latest = true, replace = true}  -- rules of `overlap` by which a tick may wait
local shared = {}  -- what is known of keys that several items use: true, or the answer of all of them
local pushed = {}  -- queue -> ids
local dated, undated = {}, {}  -- agenda entries to set and to remove

local function wrong(key, kind)
    return {'broken', key .. ' is not a ' .. kind, key, kind}
end

local function fails(reply)
    return type(reply) == 'table' and reply.err
end

local function shared_wrong(key, kind)
    if shared[key] == nil then
        shared[key] = fits(key, kind) or wrong(key, kind)
    end
    return shared[key] ~= true and shared[key] or nil
end

-- The open run that the next tick of a job waits behind: the last one that waits itself, else one that is queued or
-- at work.
local function last_open(job, open)
    for _ = 1, 20 do
        local id = call('ZREVRANGE', job .. ':behind', 0, 0)[1]
        if not id then break end
        local state = try('HGET', run_prefix .. id, 'state')
        if state == 'waiting' then return id end
        call('ZREM', job .. ':behind', id)  -- it was settled or begun by a process that knows no turns
    end
    return (standing(run_prefix, job, open, true))
end

-- What was decided before the job was paused by its failures (parts/count_failure) is decided anew. A pause that cannot
-- be read is none here: the beat has read it its own way, and decided.
local function covers(pause, instant)
    local fine, held = pcall(cjson.decode, pause)
    if not fine or type(held) ~= 'table' then return false end
    local ends = held['until']
    if ends == nil or ends == cjson.null then return true end
    ends = tonumber(ends)
    return ends ~= nil and instant < ends
end

-- Why the queued run *id* is not begun, when its queue is paused; nil when it is not. A hold that cannot be read holds.
local function paused_queue(id)
    local queue = try('HGET', run_prefix .. id, 'queue')
    if type(queue) ~= 'string' then queue = 'default' end
    local raw = try('HGET', prefix .. ':holds', 'queue:' .. queue)
    if type(raw) ~= 'string' then return nil end
    local fine, hold = pcall(cjson.decode, raw)
    if not fine or type(hold) ~= 'table' then hold = {} end
    local by = type(hold.by) == 'string' and hold.by or 'somebody'
    local note = type(hold.note) == 'string' and hold.note ~= '' and ': ' .. string.sub(hold.note, 1, 1000) or ''
    return 'the queue ' .. queue .. ' is paused by ' .. by .. note .. '; the run ' .. id .. ' waits in it'
end

-- *tick* is text where it is written and a number (*instant*) where it is compared.
local function move_on(name, state, tick, instant, mark, next, count)
    if mark < instant then
        if count then call('HSET', state, 'mark', tick, 'ticks', count) else call('HSET', state, 'mark', tick) end
    end
    if next then
        dated[name], undated[name] = next, nil
    else
        dated[name], undated[name] = nil, true
    end
end

local function settle_at_once(run, id, name, tick, kind, outcome, reason, range)
    call('HSET', run, 'job', name, 'tick', tick, 'state', 'done', 'decided_by', by, 'outcome', outcome,
        'reason', reason, 'ended_at', now)
    if kind.trigger ~= 'schedule' then call('HSET', run, 'trigger', kind.trigger) end
    if kind.queue ~= 'default' then call('HSET', run, 'queue', kind.queue) end
    if range then call('HSET', run, 'first', range[1], 'count', range[2], 'schedule', range[4]) end
    call('EXPIRE', run, batch.row_ttl)
    event(events, batch.events, outcome, name, id)
end

local function index_row(index, rows, id, tick, kind, active)
    call('ZADD', index, tick, id)
    if rows >= kind.keep then trim(run_prefix, index, active, kind.keep) end
end

-- *holder* is what the dedup key held, nil when it has just been set for this item.
local function claim(item, when, kind, holder)
    local name, expected, _, next, _, outcome, reason, range, count = unpack(item)
    local tick, instant = when.tick, tonumber(when.tick)
    local id = name .. '-' .. when.in_id
    local job, run = job_prefix .. name, run_prefix .. id
    local state = job .. ':state'
    local version = try('HGET', job, 'version')
    if fails(version) then return wrong(job, 'hash') end
    if not version then
        if call('EXISTS', job) == 1 then return {'broken', job .. ' has no version', job, ''} end
        local bad = shared_wrong(prefix .. ':jobs', 'set')
        if bad then return bad end
        if call('SISMEMBER', prefix .. ':jobs', name) == 1 then return {'broken', job .. ' is missing', job, ''} end
        call('ZREM', agenda, name)
        return {'gone', ''}
    end
    if version ~= expected then return {'stale', version} end
    local known = try('HMGET', state, 'mark', 'pause')
    if known.err then return wrong(state, 'hash') end
    local mark = tonumber(known[1] or '')
    if not mark then return {'broken', state .. ' has no mark', state, ''} end
    if instant <= mark then return {'old', format('%d', mark)} end
    if instant > latest then return {'future', format('%d', latest)} end
    if range and math.floor(mark) ~= range[3] then return {'moved', format('%d', mark)} end
    if known[2] and not outcome and covers(known[2], instant) then return {'stale', 'paused by its failures'} end

    if not kind.is_sound then
        local bad = shared_wrong(events, 'stream') or shared_wrong(queues, 'set')
            or shared_wrong(RQ .. 'queue:' .. kind.queue, 'list')
        if bad then return bad end
        kind.is_sound = true
    end
    local active, hash = job .. ':active', RQ .. 'job:' .. id
    local fields, open = 0, 0
    if call('EXISTS', run, active) > 0 then  -- mostly neither is there, and one look will do
        fields = try('HLEN', run)
        if fails(fields) then return wrong(run, 'hash') end
        open = try('HLEN', active)
        if fails(open) then return wrong(active, 'hash') end
    end
    local index = job .. ':runs'
    local rows = try('ZCARD', index)
    if fails(rows) then return wrong(index, 'zset') end
    if fields > 0 then
        local row = call('HMGET', run, 'job', 'tick', 'first')
        if row[1] ~= name or row[2] ~= tick then
            return {'broken', run .. ' is a row of something else', run, 'row'}
        end
        if range and not row[3] then return {'apart', tick} end
        move_on(name, state, tick, instant, mark, next, count)
        return {'taken', holder or 'the ledger'}
    end
    if holder and not range then
        -- A dedup key without a ledger row is nobody's claim, and the tick must not go unrecorded.
        outcome, reason = 'missed', 'its dedup key was already there, set by no beat: ' .. string.sub(holder, 1, 60)
    elseif not outcome and kind.overlap == 'skip' and open > 0 then
        local other, doing = standing(run_prefix, job, open)
        local paused = doing == 'queued' and paused_queue(other)
        if paused then
            outcome, reason = 'paused', paused
        elseif other then
            outcome, reason = 'skipped', 'the run ' .. other .. ' was still ' .. doing
        end
    end
    local waits_for, overtaken, before, new
    if not outcome and open > 0 and may_wait[kind.overlap] then
        local bad = shared_wrong(job .. ':behind', 'zset') or shared_wrong(prefix .. ':behind', 'set')
        if bad then return bad end
        if kind.overlap == 'queue' then
            waits_for = last_open(job, open)
        else
            new = {prefix = prefix, job = name, id = id, queue = kind.queue, pushed = pushed, by = by, now = now,
                row_ttl = batch.row_ttl, events = batch.events, replaces = kind.overlap == 'replace'}
            overtaken, before = earlier_runs(new)
            waits_for = before[1] and before[1].id
        end
    end
    if outcome then
        settle_at_once(run, id, name, tick, kind, outcome, reason, range)
        index_row(index, rows, id, tick, kind, active)
        move_on(name, state, tick, instant, mark, next, count)
        return {'won', outcome, reason}
    end

    local template = job .. ':template'
    local needed = try('HMGET', template, 'data', 'origin', 'timeout')
    if needed.err then return wrong(template, 'hash') end
    if not needed[1] or needed[2] ~= kind.queue or not needed[3] then
        return {'broken', template .. ' is not the template of this job', template, ''}
    end
    local has_place = overtaken and overtake(new, overtaken, not waits_for)
    if waits_for then
        reason = 'waits for the run ' .. waits_for
        if new and new.replaces then
            ask_to_stop(new, before)
            reason = reason .. ', which is to stop'
        end
        call('HSET', run, 'job', name, 'tick', tick, 'state', 'waiting', 'trigger', kind.trigger, 'queue', kind.queue,
            'decided_by', by)
    else
        call('HSET', run, 'job', name, 'tick', tick, 'state', 'queued', 'trigger', kind.trigger, 'queue', kind.queue,
            'queued_at', now, 'decided_by', by)
    end
    if reason then call('HSET', run, 'reason', reason) end
    index_row(index, rows, id, tick, kind, active)
    event(events, batch.events, waits_for and 'parked' or 'queued', name, id)
    call('COPY', template, hash, 'REPLACE')  -- whatever stands there: the id is this run's alone
    call('HSET', hash, 'created_at', stamp, 'enqueued_at', stamp, 'description', name .. when.in_description)
    if waits_for then
        call('HSET', hash, 'status', 'deferred')
        call('HSET', active, id, 'waiting')
        call('ZADD', job .. ':behind', tick, id)
        call('SADD', prefix .. ':behind', name)
        move_on(name, state, tick, instant, mark, next, count)
        return {'won', 'waiting', reason}
    end
    call('HSET', active, id, 'queued')
    if not has_place then  -- else it stands where a run stood that it has overtaken
        local ids = pushed[kind.queue]
        if ids then ids[#ids + 1] = id else pushed[kind.queue] = {id} end
    end
    move_on(name, state, tick, instant, mark, next, count)
    return queued
end

local function claim_once(item)
    local name, _, tick_number, _, kind_number = unpack(item)
    local when, kind = batch.ticks[tick_number], batch.kinds[kind_number]
    local dedup = dedup_prefix .. name .. ':' .. when.tick
    local holder
    local is_ours = call('SET', dedup, token, 'NX', 'EX', kind.dedup_life)
    if not is_ours then
        holder = try('GET', dedup)
        if fails(holder) then return wrong(dedup, 'string') end
        if holder == token then return {'mine', ''} end
    end
    -- Protected, because an error that nobody foresaw must not keep back the pushes of the items before it.
    local fine, answer = pcall(claim, item, when, kind, holder)
    if is_ours and not (fine and answer[1] == 'won') then call('DEL', dedup) end
    if not fine then error(answer, 0) end
    return answer
end

local answers, unusual = {}, 0
local damaged = {}  -- jobs whose later ticks wait: they would move the mark past one that goes unrecorded
local holds_back = {broken = true, moved = true, apart = true}
local bad = shared_wrong(agenda, 'zset')  -- without it nothing can be moved on: the same answer for all
for i, item in ipairs(batch.items) do
    local name = item[1]
    local fine, answer = true, bad or damaged[name]
    if not answer then fine, answer = pcall(claim_once, item) end
    local message = not fine and tostring(type(answer) == 'table' and answer.err or answer)
    local refused = message and refusal(message)
    if refused then return redis.error_reply(refused) end
    answer = fine and answer or {'broken', message, '', ''}
    answers[i] = answer
    if answer ~= queued then unusual = unusual + 1 end
    if holds_back[answer[1]] then damaged[name] = {'held', ''} end
end
for queue, ids in pairs(pushed) do push(prefix, queue, 'RPUSH', ids) end
local entries = {}
for name, next in pairs(dated) do
    entries[#entries + 1] = next
    entries[#entries + 1] = name
end
for first = 1, #entries, 1000 do
    call('ZADD', agenda, unpack(entries, first, math.min(first + 999, #entries)))
end
for name in pairs(undated) do call('ZREM', agenda, name) end
return unusual == 0 and 'queued' or cjson.encode(answers)
