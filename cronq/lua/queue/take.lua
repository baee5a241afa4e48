-- Pops the next id from the first of several queues that has one, into that queue's intermediate list.
--
-- KEYS  none (all are built from the names of the queues: one Redis, no Cluster)
-- ARGV  1 prefix   2 this worker's host   3 its name   4 newest layout of a spec it knows
--       5 jobs it leaves alone, as JSON   6… the names of the queues, in order of priority
-- Returns [queue, id] | nil when all are empty | ['', why] when this worker is to take nothing: `rq suspend`
--         is on (why is ''), or it is drained (why is the JSON of that hold). Queues that are paused are passed over,
--         and so is one of a wrong type; that is an error once there is nothing to take from the others.
-- An id whose job a newer cronq stored is not taken: it goes to the tail of its queue, for a newer worker.
--
-- One step, because the order of the queues is only kept when nothing is pushed between two looks, and because
-- who has drained a worker must know that nothing is taken from then on.
--@ pop

local queues, knows, left_alone = {}, tonumber(ARGV[4]), {}
for i = 6, #ARGV do queues[#queues + 1] = ARGV[i] end
for _, job in ipairs(cjson.decode(ARGV[5])) do left_alone[job] = true end
local why, by_worker, by_queue = read_holds(ARGV[1], ARGV[2], {ARGV[3]}, queues)
why = why or by_worker[ARGV[3]]
if why then return {'', why} end
local function is_for_newer(id)
    local job = redis.pcall('HGET', ARGV[1] .. ':run:' .. id, 'job')
    if type(job) ~= 'string' then return false end
    local layout = left_alone[job] or redis.pcall('HGET', ARGV[1] .. ':job:' .. job, 'layout')
    return layout == true or type(layout) == 'string' and (tonumber(layout) or 1) > knows
end
local queue, id, trouble = pop_next(queues, by_queue, is_for_newer)
if queue then return {queue, id} end
return trouble and redis.error_reply(trouble)
