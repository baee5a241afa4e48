-- Ends the runs of one process and gives its idle workers the next ones: all that Redis has to do for a usual run.
--
-- KEYS  none (all are built from the names: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, host, pid, now, stamp, lease, events, row_ttl, lock_ttl_ms, fence_life, knows, max_crashes,
--               no_commands, left_alone: [job…], queues: [name…],
--               ends: [{what runs/settle takes, worker, worked, lock, hold_ms}…],
--               offers: [{worker, execution, number, ahead}…]}
--       now: the time of that process (epoch seconds), by which it judges a ttl and dates a start   stamp: as RQ has it
--       lease: life of RQ's records of a run at work (seconds)   fence_life: so long it stays known who had a lock
--       knows: newest layout of a spec that it knows   max_crashes: what a spec says that does not say it
--       no_commands: true if it runs none   left_alone: jobs it leaves to newer processes
--       queues: in order of priority
--       ends: worked: seconds   lock: name of the lock that the run holds under its execution, or absent
--         hold_ms: so long that is kept from everybody still, or absent: it is given back
--         What they have in common (prefix, events, row_ttl) they need not repeat.
--       offers: number: a later offer of a worker has a higher one, the same offer sent again the same
--         ahead: true if the worker has a run that is about to end, and keeps it when it gets no other
-- Returns JSON [[end…], [start…], [held…]], in the order of ends and of offers; what is nil there is false
--       end     a word of runs/settle, or [error in words]: nothing else of this call is harmed by it
--       start   [begun, queue, id, execution, attempt, started_at, fencing token | nil, lock | nil, row, job, state]:
--                 it is at work for that worker, with its lock. row: its fields as they were before, flat; job and
--                 state: those that parts/plain_start names
--             | [taken, queue, id]: it is in RQ's intermediate list and nothing else of it was written: whatever
--                 runs/start is to be asked of it, or queue/reject
--             | [error, in words]   | nil: nothing is queued
--       held    nil | why this worker is to take nothing: '' for `rq suspend`, else the JSON of a hold
--
-- An offer that was answered already, and whose reply was lost, is known by the execution in the row of the run that
-- RQ's record of the worker names: it is answered again, and nothing is started twice. One that arrives after a later
-- offer of its worker was written gets nothing: nobody would do that work.
--
-- One step, because a worker that dies between the end of one run and the start of the next must leave neither half
-- done; and as for runs/settle and runs/start; and the order of the queues is only kept when nothing is pushed between
-- two looks at them. Each end and each start is protected on its own: what stands
-- in one of them may keep no other back.
--@ give_back_lock
--@ plain_start
--@ pop
--@ protected
--@ settle_run
--@ worker_record

local item = cjson.decode(ARGV[1])
local ends, starts, held, records, offered, has_ended = {}, {}, {}, {}, {}, {}
local time = redis.call('TIME')
item.seen = time[1] .. '.' .. string.format('%06d', time[2])  -- by the server's own clock: see runs/renew.lua

local function record_of(worker)
    if not records[worker] then records[worker] = read_record(worker) end
    return records[worker]
end

for i, each in ipairs(item.ends) do
    each.prefix, each.events, each.row_ttl = item.prefix, item.events, item.row_ttl
    has_ended[each.run] = true
    local word, more = protected(settle_run, each)
    ends[i] = word or {more}
    if each.lock then  -- its child is dead, whatever the ledger says
        protected(give_back_lock, each, each.lock, function(...) return rare().wake_waiter(...) end)
    end
    local record = each.stock and {} or record_of(each.worker)
    if record.key then
        if word and word ~= 'stale' and word ~= 'unknown' and more ~= true then
            count_end(record, each, word ~= 'retrying' and each.outcome == 'succeeded')
        end
        if word and record.current == each.run then set_current(record, nil) end
    end
end

local workers, left_alone = {}, {}
for i, offer in ipairs(item.offers) do workers[i] = offer.worker end
for _, job in ipairs(item.left_alone) do left_alone[job] = true end
item.left_alone = left_alone
local why, by_worker, by_queue = nil, nil, nil
if #workers > 0 then why, by_worker, by_queue = read_holds(item.prefix, item.host, workers, item.queues) end

local looked = {}
local function is_for_newer(id)
    local found = look_at_run(item, id)
    looked[id] = found
    if not found.row or not found.row.job then return false end
    local layout = found.job and found.job[3]
    return left_alone[found.row.job] or type(layout) == 'string' and (tonumber(layout) or 1) > item.knows
end
-- A worker whose record cannot be read would not find what it was given: its runs go step by step.
local function take(offer, record)
    local queue, id, trouble = pop_next(item.queues, by_queue, is_for_newer)
    if not queue then return trouble and {'error', trouble} or false end
    return record.key and protected(start_plain, item, offer, queue, id, looked[id]) or {'taken', queue, id}
end
local function serve(i, offer)
    local record = record_of(offer.worker)
    offered[offer.worker] = offer.number
    local id = record.current
    if offer.number < (record.newest or 0) then return false end
    local start = id and not has_ended[id] and started_before(item, offer, id)
    if not start then
        held[i] = why or by_worker[offer.worker]
        start = not held[i] and take(offer, record)
    end
    local is_begun = start and start[1] == 'begun'
    if record.key and (is_begun or record.current and not offer.ahead) then  -- whoever offers itself has no other
        set_current(record, is_begun and start[3] or nil)
    end
    return start
end

for i, offer in ipairs(item.offers) do
    local start, more = protected(serve, i, offer)
    if start == nil then start = {'error', more} end
    starts[i] = start
    held[i] = held[i] or false
end
for worker, record in pairs(records) do protected(write_record, record, offered[worker]) end
return cjson.encode({ends, starts, held})
