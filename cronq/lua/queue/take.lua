-- Pops the next id from the first of several queues that has one, into that queue's intermediate list.
--
-- KEYS  1… rq:queue:{queue}, in order of priority   (what is only read is none of them: KEYS must be open for writing)
-- ARGV  1 prefix   2 this worker's host   3 its name   4 newest layout of a spec it knows
--       5 jobs it leaves alone, as JSON   6… the names of the queues
-- Returns [key of the queue, id] | nil when all are empty | ['', why] when this worker is to take nothing: `rq suspend`
--         is on (why is ''), or it is drained (why is the JSON of that hold). Queues that are paused are passed over,
--         and so is one of a wrong type; that is an error once there is nothing to take from the others.
-- An id whose job a newer cronq stored is not taken: it goes to the tail of its queue, for a newer worker.
--
-- One step, because the order of the queues is only kept when nothing is pushed between two looks, and because
-- who has drained a worker must know that nothing is taken from then on.
--@ rq

if redis.call('EXISTS', RQ .. 'suspended') == 1 then return {'', ''} end
local fields = {'all', 'host:' .. ARGV[2], 'worker:' .. ARGV[3]}
for i = 6, #ARGV do fields[#fields + 1] = 'queue:' .. ARGV[i] end
local holds = redis.pcall('HMGET', ARGV[1] .. ':holds', unpack(fields))
if holds.err then holds = {} end  -- of a wrong type: that holds nobody
for i = 1, 3 do
    if holds[i] then return {'', holds[i]} end
end
local knows, left_alone = tonumber(ARGV[4]), {}
for _, job in ipairs(cjson.decode(ARGV[5])) do left_alone[job] = true end
local function is_for_newer(id)
    local job = redis.pcall('HGET', ARGV[1] .. ':run:' .. id, 'job')
    if type(job) ~= 'string' then return false end
    local layout = left_alone[job] or redis.pcall('HGET', ARGV[1] .. ':job:' .. job, 'layout')
    return layout == true or type(layout) == 'string' and (tonumber(layout) or 1) > knows
end
local function take(queue)
    local popped, looks = queue .. ':intermediate', nil
    repeat
        local id = redis.pcall('LMOVE', queue, popped, 'LEFT', 'RIGHT')
        if type(id) == 'table' or not id or not is_for_newer(id) then return id end
        redis.call('LREM', popped, -1, id)
        redis.call('RPUSH', queue, id)
        looks = (looks or math.min(redis.call('LLEN', queue), 100)) - 1
    until looks <= 0
    return false
end
local trouble
for i = 1, #KEYS do
    local id = not holds[i + 3] and take(KEYS[i])
    if type(id) == 'table' then
        if not string.find(id.err, 'WRONGTYPE', 1, true) then return id end
        trouble = trouble or redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' or its intermediate list is not a list')
    elseif id then
        return {KEYS[i], id}
    end
end
return trouble
