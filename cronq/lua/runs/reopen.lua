-- Opens settled runs again that somebody has requeued with RQ's tools: each is queued in the ledger, too, as its next
-- attempt.
--
-- KEYS  1 events
-- ARGV  1 prefix   2 now (epoch seconds)   3 events to keep   4… run ids
-- Returns the ids of those that were opened: they had an outcome, and RQ's word for them is `queued`.
--
-- A run that may be started a single time and was started keeps its outcome: whoever pops it rejects it. Keys of a
-- wrong type are left to those who meet them when the run starts.
--
-- One step, because a run that is popped and started between two commands would be opened a second time.
--@ event
--@ keep_attempt
--@ open_set
--@ rq
--@ types

local call, prefix = redis.call, ARGV[1]

-- Returns true if a job asks for at_most_once.
local function is_once(job)
    local spec = redis.pcall('HGET', prefix .. ':job:' .. job, 'spec')
    local fine, known = pcall(cjson.decode, type(spec) == 'string' and spec or '')
    return fine and type(known) == 'table' and known.at_most_once == true
end

local function open(id)
    local run = prefix .. ':run:' .. id
    if not fits(run, 'hash') then return false end
    local row = call('HMGET', run, 'state', 'job', 'attempt', 'started_at')
    if row[1] ~= 'done' or not row[2] then return false end
    if redis.pcall('HGET', RQ .. 'job:' .. id, 'status') ~= 'queued' then return false end
    local active = open_set(prefix, row[2], id)
    if not fits(active, 'hash') or (row[4] and is_once(row[2])) then return false end
    local attempt = tonumber(row[3] or '') or 1
    keep_attempt(run, attempt)
    call('HSET', run, 'state', 'queued', 'attempt', attempt + 1, 'queued_at', ARGV[2],
        'reason', "requeued with RQ's tools", 'decided_by', 'rq')
    call('HDEL', run, 'started_at', 'host', 'pid', 'worker', 'execution')
    call('HSET', active, id, 'queued')
    try_event(KEYS[1], ARGV[3], 'queued', row[2], id)
    return true
end

local opened = {}
for i = 4, #ARGV do
    if open(ARGV[i]) then opened[#opened + 1] = ARGV[i] end
end
return opened
