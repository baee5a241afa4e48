-- Puts late runs in the catch-up line, and their jobs out of the way of ticks that are on time.
--
-- KEYS  1 catchup (ZSET)   2 agenda (ZSET)
-- ARGV  1 JSON {prefix, items: [[job, version, mark, newest tick that is held, moment of the next tick that is on time
--         or false, what is added to a tick for its place in the line, [tick…]]…]}
--         the ticks, oldest first, are those that get a place in the line; the oldest is the one after the mark
-- Returns how many runs were given a place
--
-- The mark stays, so a held tick is due as before: what is lost here is found by an audit, and what is held twice is
-- claimed once. The job's state says up to which tick it is held, and up to which its ticks stand in the line.
--
-- One step, because a beat may die between any two commands: off the agenda and in no line the ticks would wait for the
-- next one of their job, and a beat that read the job before another let it through must not hold it again.
--@ types

local call, try = redis.call, redis.pcall
local batch = cjson.decode(ARGV[1])
local catchup, agenda = KEYS[1], KEYS[2]
local wrong = wrong_type({catchup, 'zset', agenda, 'zset'})
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end

local function stands(name, tick, offset)
    local score = call('ZSCORE', catchup, name .. ':' .. tick)
    return score and tonumber(score) == tick + offset
end

local placed = 0
for _, item in ipairs(batch.items) do
    local name, version, mark, held, following, offset, ticks = unpack(item)
    local job = batch.prefix .. ':job:' .. name
    local known = try('HGET', job, 'version')
    local state = try('HMGET', job .. ':state', 'mark', 'held', 'through')
    local is_same = known == version and not state.err and math.floor(tonumber(state[1] or '') or -1) == mark
    if is_same and ticks[1] > (tonumber(state[3] or '') or 0) then
        local last = ticks[#ticks]
        if not (stands(name, ticks[1], offset) and stands(name, last, offset)) then
            for first = 1, #ticks, 500 do
                local entries = {}
                for i = first, math.min(first + 499, #ticks) do
                    entries[#entries + 1] = string.format('%.0f', ticks[i] + offset)
                    entries[#entries + 1] = name .. ':' .. string.format('%.0f', ticks[i])
                end
                placed = placed + call('ZADD', catchup, unpack(entries))
            end
        end
        held = math.max(held, tonumber(state[2] or '') or 0)
        call('HSET', job .. ':state', 'held', string.format('%.0f', held), 'in_line', string.format('%.0f', last))
        if following then
            call('ZADD', agenda, following, name)
        else
            call('ZREM', agenda, name)
        end
    end
end
return placed
