-- Claims ticks: for each the dedup key, the ledger row, the RQ job, the push, the active set, the mark and the
-- next due time, or nothing of it.
--
-- KEYS  1 agenda   2 events   3 rq:queues   (the others are built from the items: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, token, by, now, stamp, row_ttl, events, asked, ticks, kinds, items}
--         now: epoch seconds   stamp: the same as RQ writes times   by: who claims   row_ttl: seconds
--         asked: true when a person decided what becomes of these ticks, and the events say who; else absent
--         ticks: [{tick, in_id, in_description: how it stands there}…]
--         kinds: [{queue, dedup_life: seconds, overlap, keep: rows (a number), trigger, spares: whether such a tick
--                  leaves caught-up ones that wait for a parent, in_order: whether it waits for the tick before,
--                  blocks: whether it ends the waiting of earlier ones for their parents}…]
--         items: [[job, version, number of its tick, next tick or false, number of its kind,
--                  outcome or false (then it is queued), reason or false,
--                  and for a range [oldest tick, count, mark it begins after (a number), schedule as JSON], else false,
--                  when the ticks of the job are counted how many it has had with this one, else false,
--                  for a job with parents [[parent, moment up to which it must have succeeded (a number), that
--                  in words, its run or ""]…], else false, and what the outcome does not say (runs/cause) or false]…],
--                  the last four are left out when there is nothing of them,
--                  oldest tick of a job first; the tick of a range is its newest
--         All other numbers are text: handed on as they are, they need not be printed again for every command.
-- Returns "queued" when all were won and queued, as on most days; else JSON, when runs that waited for parents were
--         blocked {answers, blocked: [[run, why]…]}, else the answers alone: for each item, in order,
--         [code, detail, …]
--         won      claimed by this call: "queued"; "waiting", and for what; or the outcome that was recorded, and
--                  its reason
--         mine     claimed by an earlier call with the same token, whose reply was lost
--         taken    claimed by somebody else; a mark that lagged behind was moved
--         old      the mark is already past it          stale   the job was changed or paused since it was read
--         gone     there is no such job (any more)      future  later than the server's time
--         moved    the mark is not where this range begins, or the count of ticks is another one: decide anew
--         apart    a range has a tick that was decided before: decide anew, with that tick apart (the detail)
--         held     an earlier tick of the job is broken, or its range was not claimed: this one waits for it
--         early    the tick before has not succeeded, and they run in order: its run, and the state or outcome of that.
--                  The agenda says when to try again
--         broken   a key it needs has a wrong type or value, nothing was written: why, the key, and the type it
--                  should have ("" when the type is right and the value is not)
--
-- One step, because a beat may die between any two commands and several beats claim the same tick: dedup key
-- and mark without the push would lose it, the push without them would double it. Lua is not rolled back when
-- a command fails half-way, so each key is read before the first write of an item, by a command that fails on
-- a wrong type: one look for type and value. The dedup key alone is set first and taken back when the item
-- turns out not to be claimed. Pushes and agenda entries are collected and sent at the end.
--@ close_gate
--@ in_order
--@ overlap
--@ pauses
--@ push
--@ refusal
--@ rq
--@ ticks
--@ types

local batch = cjson.decode(ARGV[1])
local prefix, token = batch.prefix, batch.token
local agenda, events, queues = KEYS[1], KEYS[2], KEYS[3]
local call, try, format = redis.call, redis.pcall, string.format
local latest = tonumber(call('TIME')[1]) + 1
local job_prefix, run_prefix, dedup_prefix = prefix .. ':job:', prefix .. ':run:', prefix .. ':dedup:'

local queued = {'won', 'queued'}
local shared = {}  -- what is known of keys that several items use: true, or the answer of all of them
batch.pushed, batch.stream, batch.blocked = {}, events, {}
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

-- Returns the mark of the job as a number, and what its state says: mark, pause, runs that wait for parents, first and
-- last tick that is not decided again; or nil and the answer to the item, when it is not to be claimed.
local function find_mark(name, expected, outcome, range, instant, job, state)
    local version = try('HGET', job, 'version')
    if fails(version) then return nil, wrong(job, 'hash') end
    if not version then
        if call('EXISTS', job) == 1 then return nil, {'broken', job .. ' has no version', job, ''} end
        local bad = shared_wrong(prefix .. ':jobs', 'set')
        if bad then return nil, bad end
        if call('SISMEMBER', prefix .. ':jobs', name) == 1 then
            return nil, {'broken', job .. ' is missing', job, ''}
        end
        call('ZREM', agenda, name)
        return nil, {'gone', ''}
    end
    if version ~= expected then return nil, {'stale', version} end
    local known = try('HMGET', state, 'mark', 'pause', 'gated', 'decided_from', 'decided_to')
    if known.err then return nil, wrong(state, 'hash') end
    local mark = tonumber(known[1] or '')
    if not mark then return nil, {'broken', state .. ' has no mark', state, ''} end
    if instant <= mark then return nil, {'old', format('%d', mark)} end
    if instant > latest then return nil, {'future', format('%d', latest)} end
    if range and math.floor(mark) ~= range[3] then return nil, {'moved', format('%d', mark)} end
    -- What was decided before the job was paused by its failures (parts/count_failure) is decided anew.
    if known[2] and not outcome and covers(known[2], instant) then
        return nil, {'stale', 'paused by its failures'}
    end
    return mark, known
end

-- The server's clock went back, and the mark with it: the ticks from *first* to *last* were decided before
-- (jobs/quarantine). Returns `within` for a tick or a range of them, or the tick at which a range is to be parted.
local function decided_before(first, last, range, instant)
    local oldest = range and tonumber(range[1]) or instant
    if not first or not last or instant < first or oldest > last then return nil end
    return oldest < first and first or instant > last and last or 'within'
end

-- Looks at the keys of what many items have in common. Returns the answer to all of them when one is broken.
local function kind_wrong(kind)
    if kind.is_sound then return nil end
    local bad = shared_wrong(events, 'stream') or shared_wrong(queues, 'set')
        or shared_wrong(RQ .. 'queue:' .. kind.queue, 'list')
    kind.is_sound = not bad
    return bad
end

-- Looks at the keys of *new*. Returns how many fields its row has, and how many runs of the job are open; or nil, nil
-- and the answer to the item.
local function look(new)
    local fields, open = 0, 0
    if call('EXISTS', new.row, new.active) > 0 then  -- mostly neither is there, and one look will do
        fields = try('HLEN', new.row)
        if fails(fields) then return nil, nil, wrong(new.row, 'hash') end
        open = try('HLEN', new.active)
        if fails(open) then return nil, nil, wrong(new.active, 'hash') end
    end
    new.known = try('ZCARD', new.index)
    if fails(new.known) then return nil, nil, wrong(new.index, 'zset') end
    return fields, open
end

-- Returns the run that the next tick of a job has to wait for because they run in order, and its state or outcome; nil
-- when there is none. Keys of a wrong type are left to what looks at them next.
local function wait_in_order(name, job, mark)
    if not fits(job .. ':active', 'hash') or not fits(job .. ':runs', 'zset') then return nil end
    local id, word, seconds = in_the_way(prefix, job, format('%d', mark))
    if not id then return nil end
    dated[name], undated[name] = format('%.3f', tonumber(batch.now) + seconds), nil
    return id, word
end

local new = {}  -- the tick that is claimed, one table for all: each is done with before the next

-- *holder* is what the dedup key held, nil when it has just been set for this item.
local function claim(item, when, kind, holder)
    local name, expected, _, next, _, outcome, reason, range, count, needs, cause = unpack(item)
    local tick, instant = when.tick, tonumber(when.tick)
    local job = job_prefix .. name
    local state = job .. ':state'
    local mark, known = find_mark(name, expected, outcome, range, instant, job, state)
    if not mark then return known end
    local gated, place = known[3], known[5] and decided_before(tonumber(known[4]), tonumber(known[5]), range, instant)
    if place == 'within' then
        move_on(name, state, tick, instant, mark, next)
        return {count and 'moved' or 'taken', 'the ledger'}  -- it was counted when it was decided
    elseif place then
        return {'apart', format('%d', place)}
    end
    local bad = kind_wrong(kind)
    if bad then return bad end
    if kind.in_order then
        local other, word = wait_in_order(name, job, mark)
        if other then return {'early', other, word} end
    end
    local id = name .. '-' .. when.in_id
    new.job, new.id, new.tick, new.description = name, id, tick, name .. when.in_description
    new.queue, new.trigger, new.overlap, new.keep = kind.queue, kind.trigger, kind.overlap, kind.keep
    new.key, new.row, new.active = job, run_prefix .. id, job .. ':active'
    new.index, new.hash = job .. ':runs', RQ .. 'job:' .. id
    local fields, open, damage = look(new)
    if not fields then return damage end
    if fields > 0 then
        local row = call('HMGET', new.row, 'job', 'tick', 'first')
        if row[1] ~= name or row[2] ~= tick then
            return {'broken', new.row .. ' is a row of something else', new.row, 'row'}
        end
        if range and not row[3] then return {'apart', tick} end
        move_on(name, state, tick, instant, mark, next, count)
        return {'taken', holder or 'the ledger'}
    end
    if holder and not range then
        -- A dedup key without a ledger row is nobody's claim, and the tick must not go unrecorded.
        outcome, cause = 'missed', nil
        reason = 'its dedup key was already there, set by no beat: ' .. string.sub(holder, 1, 60)
    elseif not outcome and open > 0 then
        local why
        outcome, why, cause = overlap_outcome(batch, new, open)
        reason = why or reason
    end
    if outcome then
        if gated and kind.blocks then block_earlier(batch, name, job, gated, instant, kind.spares) end
        record_outcome(batch, new, outcome, reason, range, cause or nil)
        move_on(name, state, tick, instant, mark, next, count)
        return {'won', outcome, reason}
    end
    local template, should_be = bad_template(new)
    if template then
        return should_be == 'hash' and wrong(template, 'hash')
            or {'broken', template .. ' is not the template of this job', template, ''}
    end
    needs = needs and unmet(batch, needs)
    local is_closed = needs and #needs > 0
    if is_closed then
        bad = gates_wrong(batch, needs, shared_wrong)
    elseif open > 0 and MAY_WAIT[kind.overlap] then
        bad = shared_wrong(job .. ':behind', 'zset') or shared_wrong(prefix .. ':behind', 'set')
    end
    if bad then return bad end
    if gated and kind.blocks then block_earlier(batch, name, job, gated, instant, kind.spares) end
    local waits
    if is_closed then
        open_tick(batch, new, true, nil)
        waits = close_gate(batch, new, needs, MAY_WAIT[kind.overlap])
    else
        waits = open_in_turn(batch, new, reason, open)
    end
    move_on(name, state, tick, instant, mark, next, count)
    return waits and {'won', 'waiting', waits} or queued
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
local holds_back = {broken = true, moved = true, apart = true, early = true}
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
for queue, ids in pairs(batch.pushed) do push(prefix, queue, 'RPUSH', ids) end
local entries = {}
for name, next in pairs(dated) do
    entries[#entries + 1] = next
    entries[#entries + 1] = name
end
for first = 1, #entries, 1000 do
    call('ZADD', agenda, unpack(entries, first, math.min(first + 999, #entries)))
end
for name in pairs(undated) do call('ZREM', agenda, name) end
if #batch.blocked > 0 then return cjson.encode({answers = answers, blocked = batch.blocked}) end
return unusual == 0 and 'queued' or cjson.encode(answers)
