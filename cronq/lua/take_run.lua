-- Pops the next id from the first of several queues that has one, into that queue's intermediate list.
--
-- KEYS  1… rq:queue:{queue}, in order of priority
-- ARGV  none
-- Returns [key of the queue, id], or nil when all are empty.
--
-- One step, because the order of the queues is only kept when nothing is pushed between two looks.
for _, queue in ipairs(KEYS) do
    local id = redis.call('LMOVE', queue, queue .. ':intermediate', 'LEFT', 'RIGHT')
    if id then return {queue, id} end
end
return nil
