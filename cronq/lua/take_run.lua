-- Pops the next id from the first of several queues that has one, into that queue's intermediate list.
--
-- KEYS  1 rq:suspended   2 holds   3… rq:queue:{queue}, in order of priority
-- ARGV  1 this worker's host   2 its name   3… the names of the queues
-- Returns [key of the queue, id] | nil when all are empty | ['', why] when this worker is to take nothing: `rq suspend`
--         is on (why is ''), or it is drained (why is the JSON of that hold). Queues that are paused are passed over,
--         and so is one of a wrong type; that is an error once there is nothing to take from the others.
--
-- One step, because the order of the queues is only kept when nothing is pushed between two looks, and because
-- who has drained a worker must know that nothing is taken from then on.
if redis.call('EXISTS', KEYS[1]) == 1 then return {'', ''} end
local fields = {'all', 'host:' .. ARGV[1], 'worker:' .. ARGV[2]}
for i = 3, #ARGV do fields[#fields + 1] = 'queue:' .. ARGV[i] end
local holds = redis.pcall('HMGET', KEYS[2], unpack(fields))
if holds.err then holds = {} end  -- of a wrong type: that holds nobody
for i = 1, 3 do
    if holds[i] then return {'', holds[i]} end
end
local trouble
for i = 3, #KEYS do
    local id = not holds[i + 1] and redis.pcall('LMOVE', KEYS[i], KEYS[i] .. ':intermediate', 'LEFT', 'RIGHT')
    if type(id) == 'table' then
        if not string.find(id.err, 'WRONGTYPE', 1, true) then return id end
        trouble = trouble or redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' or its intermediate list is not a list')
    elseif id then
        return {KEYS[i], id}
    end
end
return trouble
