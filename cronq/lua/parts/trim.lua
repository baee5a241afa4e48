-- Part of claim, enqueue, delay and settle. Drops settled rows with their entries in *index* until about *keep* are
-- left, a few at a time, the oldest first; open ones, which are in *open*, stay whatever their number and do not
-- count. *rows* is what the keys of rows begin with; *spared* a run that has just ended, of which somebody may wait to
-- hear.
local function trim(rows, index, open, keep, spared)
    local over = redis.call('ZCARD', index) - redis.call('HLEN', open) - keep
    local function drop(first, last)
        local dropped = 0
        for _, id in ipairs(redis.call('ZRANGE', index, first, last)) do
            local state = redis.pcall('HGET', rows .. id, 'state')
            if id ~= spared and (not state or type(state) == 'table' or state == 'done') then
                redis.call('DEL', rows .. id)
                redis.call('ZREM', index, id)
                dropped = dropped + 1
            end
        end
        return dropped
    end
    if over <= 0 then return end
    local few = math.min(over, 10)
    over = over - drop(0, few - 1)
    -- Open ones that stand first would hide the settled ones behind them for ever: a look at another place each time.
    if over >= few then
        local first = tonumber(redis.call('TIME')[2]) % over
        drop(first, math.min(first + 19, over - 1))
    end
end
