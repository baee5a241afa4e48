-- Claims ticks: for each the dedup key, the ledger row, the RQ job, the push, the active set, the mark and the
-- next due time, or nothing of it.
--
-- KEYS  1 agenda   2 events   3 rq:queues   (the others are built from the items: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, token, by, now, stamp, row_ttl, events, dedup_life, asked, leave_after, ticks, kinds, items,
--         spans, more}
--         now: epoch seconds   stamp: the same as RQ writes times   by: who claims   row_ttl, dedup_life: seconds
--         asked: true when a person decided what becomes of these ticks, and the events say who; else absent
--         leave_after: after so many in a row that others have claimed, the rest is left to them; absent: never
--         ticks: [{tick, in_dedup, in_id, in_description: how it stands there, behind the name of a job}…]
--         kinds: [{queue, overlap, keep: rows (a number), trigger, spares: whether such a tick leaves caught-up ones
--                  that wait for a parent, in_order: whether it waits for the tick before, blocks: whether it ends the
--                  waiting of earlier ones for their parents}…]
--         items: [job, version, next tick or "", job, version, next tick or "", …], oldest tick of a job first
--         spans: [[how many items, number of their tick, number of their kind]…], in the order of the items
--         more: what is to be said of some items: {number of the item: [outcome or false (then it is queued), reason or
--                  false, and for a range [oldest tick, count, mark it begins after (a number), schedule as JSON], else
--                  false, when the ticks of the job are counted how many it has had with this one, else false, for a
--                  job with parents [[parent, moment up to which it must have succeeded (a number), that in words, its
--                  run or ""]…], else false, what the outcome does not say (runs/cause) or false]…}; the tick of a
--                  range is its newest
--         All other numbers are text: handed on as they are, they need not be printed again for every command.
-- Returns "queued" when all were won and queued, as on most days; else JSON, when runs that waited for parents were
--         blocked {answers, blocked: [[run, why]…]}, else the answers alone: for each item, in order,
--         [code, detail, …]
--         won      claimed by this call: "queued"; "waiting", and for what; or the outcome that was recorded, and
--                  its reason
--         mine     claimed by an earlier call with the same token, whose reply was lost
--         taken    claimed by somebody else; a mark that lagged behind was moved
--         old      the mark is already past it          stale   the job was changed or paused since it was read
--         left     not looked at: so many before it were taken or old that another beat must be at work on these
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
--
-- Nearly all of the time goes into the commands, about the same for each, so the everyday tick has its own short way
-- (`queue_plain`); every other one takes the long way, which looks at the same keys again where it must know more.
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
local prefix, token, items = batch.prefix, batch.token, batch.items
local now, by, stamp, dedup_life = batch.now, batch.by, batch.stamp, batch.dedup_life
local agenda, events, queues = KEYS[1], KEYS[2], KEYS[3]
local call, try, format = redis.call, redis.pcall, string.format
local latest = tonumber(call('TIME')[1]) + 1
local job_prefix, run_prefix, dedup_prefix = prefix .. ':job:', prefix .. ':run:', prefix .. ':dedup:'
local rq_job_prefix = RQ .. 'job:'

local queued = {'won', 'queued'}
local shared = {}  -- what is known of keys that several items use: true, or the answer of all of them
batch.pushed, batch.stream, batch.blocked = {}, events, {}
local dated, dates = {}, 0  -- agenda entries to set, as ZADD takes them, the last one of a job counts; how many words
local undated = {}  -- jobs whose entries are to be removed

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

local function enter(name, next)
    dated[dates + 1], dated[dates + 2] = next, name
    dates, undated[name] = dates + 2, nil
end

-- *tick* is text where it is written and a number (*instant*) where it is compared.
local function move_on(name, state, tick, instant, mark, next, count)
    if mark < instant then
        if count then call('HSET', state, 'mark', tick, 'ticks', count) else call('HSET', state, 'mark', tick) end
    end
    if next ~= '' then enter(name, next) else undated[name] = true end
end

-- Returns the mark of the job as a number, and what its state says: mark, pause, runs that wait for parents, first and
-- last tick that is not decided again; or nil and the answer to the item, when it is not to be claimed.
local function find_mark(name, expected, outcome, range, instant, job, state)
    local version = try('HGET', job, 'version')
    if version ~= expected then
        if fails(version) then return nil, wrong(job, 'hash') end
        if version then return nil, {'stale', version} end
        if call('EXISTS', job) == 1 then return nil, {'broken', job .. ' has no version', job, ''} end
        local bad = shared_wrong(prefix .. ':jobs', 'set')
        if bad then return nil, bad end
        if call('SISMEMBER', prefix .. ':jobs', name) == 1 then
            return nil, {'broken', job .. ' is missing', job, ''}
        end
        call('ZREM', agenda, name)
        return nil, {'gone', ''}
    end
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

-- Returns how many fields the row of the tick has, and how many runs of the job are open; or nil, nil and the answer to
-- the item.
local function look(row, active)
    local there = call('EXISTS', row, active)
    if there == 0 then return 0, 0 end  -- mostly neither is there, and one look will do
    local open = try('HLEN', active)
    if fails(open) then return nil, nil, wrong(active, 'hash') end
    if there == 1 and open > 0 then return 0, open end  -- it is not the row
    local fields = try('HLEN', row)
    if fails(fields) then return nil, nil, wrong(row, 'hash') end
    return fields, open
end

-- Returns the run that the next tick of a job has to wait for because they run in order, and its state or outcome; nil
-- when there is none. Keys of a wrong type are left to what looks at them next.
local function wait_in_order(name, job, mark)
    if not fits(job .. ':active', 'hash') or not fits(job .. ':runs', 'zset') then return nil end
    local id, word, seconds = in_the_way(prefix, job, format('%d', mark))
    if not id then return nil end
    enter(name, format('%.3f', tonumber(now) + seconds))
    return id, word
end

local function template_wrong(job, queue)
    local template, should_be = bad_template(job, queue)
    if not template then return nil end
    return should_be == 'hash' and wrong(template, 'hash')
        or {'broken', template .. ' is not the template of this job', template, ''}
end

-- Queues the run of a tick of which nothing is to be said but that it is due, while no earlier run of its job is in its
-- way: what `open_in_turn` makes of it, in fewer steps. Rows are not counted here: its end trims them.
local function queue_plain(name, when, kind, job, id, row, active)
    local queue, index, hash = kind.queue, job .. ':runs', rq_job_prefix .. id
    local bad = template_wrong(job, queue)
    if bad then return bad end
    local listed = try('ZADD', index, when.tick, id)  -- the first write, so it is its own look at the type
    if fails(listed) then
        if string.find(listed.err, 'WRONGTYPE', 1, true) then return wrong(index, 'zset') end
        error(listed, 0)
    end
    call('HSET', row, 'job', name, 'tick', when.tick, 'state', 'queued', 'trigger', kind.trigger,
        'queue', queue, 'queued_at', now, 'decided_by', by)
    event(events, batch.events, 'queued', name, id)
    call('COPY', job .. ':template', hash, 'REPLACE')  -- whatever stands there: the id is this run's alone
    call('HSET', hash, 'created_at', stamp, 'enqueued_at', stamp, 'description', name .. when.in_description)
    call('HSET', active, id, 'queued')
    local ids = batch.pushed[queue]
    if ids then ids[#ids + 1] = id else batch.pushed[queue] = {id} end
    return queued
end

local new = {}  -- the tick that is claimed, one table for all: each is done with before the next

-- *extra* is what more is to be said of the item, or nil; *holder* what the dedup key held, nil when it has just been
-- set for this item.
local function claim(name, expected, next, when, kind, extra, holder)
    local outcome, reason, range, count, needs, cause
    if extra then outcome, reason, range, count, needs, cause = unpack(extra) end
    local tick, instant = when.tick, when.instant
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
    local bad = not kind.is_sound and kind_wrong(kind)
    if bad then return bad end
    if kind.in_order then
        local other, word = wait_in_order(name, job, mark)
        if other then return {'early', other, word} end
    end
    local id = name .. when.in_id
    local row, active = run_prefix .. id, job .. ':active'
    local fields, open, damage = look(row, active)
    if not fields then return damage end
    if not (extra or holder or gated) and fields == 0 and (open == 0 or kind.overlap == 'allow') then
        bad = queue_plain(name, when, kind, job, id, row, active)
        if bad == queued then move_on(name, state, tick, instant, mark, next) end
        return bad
    end
    new.job, new.id, new.tick, new.description = name, id, tick, name .. when.in_description
    new.queue, new.trigger, new.overlap, new.keep = kind.queue, kind.trigger, kind.overlap, kind.keep
    new.key, new.row, new.active, new.index, new.hash = job, row, active, job .. ':runs', rq_job_prefix .. id
    new.known = try('ZCARD', new.index)
    if fails(new.known) then return wrong(new.index, 'zset') end
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
    bad = template_wrong(job, kind.queue)
    if bad then return bad end
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

-- Where the loop stands: the number of the item in hand, its tick and kind, how many more are alike, and the dedup key
-- that was set for it. An error that nobody foresaw leaves that behind.
local number, span, left, when, kind, taken = 0, 0, 0, nil, nil, nil

local function claim_once(name, expected, next, extra)
    local dedup, holder = dedup_prefix .. name .. when.in_dedup, nil
    if call('SET', dedup, token, 'NX', 'EX', dedup_life) then
        taken = dedup
    else
        holder = try('GET', dedup)
        if fails(holder) then return wrong(dedup, 'string') end
        if holder == token then return {'mine', ''} end
    end
    local answer = claim(name, expected, next, when, kind, extra, holder)
    if taken and answer[1] ~= 'won' then call('DEL', taken) end
    return answer
end

local answers, is_usual = {}, true  -- those that are not `queued`, by the number of their items
local damaged = {}  -- jobs whose later ticks wait: they would move the mark past one that goes unrecorded
local holds_back = {broken = true, moved = true, apart = true, early = true}

-- A beat that meets another one in the middle of a burst is to read anew what is left of it.
local in_a_row, left_alone = 0, nil  -- items in a row that somebody else has claimed; what the others are answered then

local function note(answer)
    answers[number], is_usual = answer, false
    local is_taken = answer[1] == 'taken' or answer[1] == 'old'
    in_a_row = is_taken and in_a_row + 1 or 0
    if in_a_row == batch.leave_after then left_alone = {'left', ''} end
    if holds_back[answer[1]] then damaged[items[3 * number - 2]] = {'held', ''} end
end

local more = {}
for text, extra in pairs(batch.more or {}) do more[tonumber(text)] = extra end
for _, each in ipairs(batch.ticks) do each.instant = tonumber(each.tick) end
local bad = shared_wrong(agenda, 'zset')  -- without it nothing can be moved on: the same answer for all

local function go_on()
    while true do
        if left == 0 then
            span = span + 1
            local facts = batch.spans[span]
            if not facts then return end
            left, when, kind = facts[1], batch.ticks[facts[2]], batch.kinds[facts[3]]
        end
        number, left, taken = number + 1, left - 1, nil
        local last = 3 * number
        local name = items[last - 2]
        local answer = bad or damaged[name] or left_alone
            or claim_once(name, items[last - 1], items[last], more[number])
        if answer ~= queued then note(answer) else in_a_row = 0 end
    end
end

-- Protected, because an error that nobody foresaw must not keep back the pushes of the items before it.
repeat
    local fine, failure = pcall(go_on)
    if not fine then
        local message = tostring(type(failure) == 'table' and failure.err or failure)
        local refused = refusal(message)
        if refused then return redis.error_reply(refused) end
        if taken then call('DEL', taken) end
        note({'broken', message, '', ''})
    end
until fine
for queue, ids in pairs(batch.pushed) do push(prefix, queue, 'RPUSH', ids) end
for first = 1, dates, 1000 do
    call('ZADD', agenda, unpack(dated, first, math.min(first + 999, dates)))
end
for name in pairs(undated) do call('ZREM', agenda, name) end
if is_usual then return 'queued' end
for i = 1, number do answers[i] = answers[i] or queued end
return cjson.encode(#batch.blocked > 0 and {answers = answers, blocked = batch.blocked} or answers)
