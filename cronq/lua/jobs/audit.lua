-- Looks through some of the jobs for damage that no claim would meet: a job that is not on the agenda is never due, and
-- one that is missing in `jobs` is on no list.
--
-- KEYS  1 jobs   2 agenda   3 catchup
-- ARGV  1 prefix   2 cursor over the jobs   3 cursor over the agenda   4 about how many
--       5 newest layout of a spec the caller knows: jobs of a newer one are passed by
-- Returns JSON {jobs, agenda: the next cursors ("0" at the end),
--         seen: [[name, what, mark, score, spec, ticks, held, trigger]…]}
--         what: "" (nothing to be seen), wrong_type, undefined or untemplated; absent values are ""
--         held: the newest tick of it that the catch-up rate holds, when it stands in that line
--         trigger: what starts it, of a job with `after`: no claim would find the keys of such a job damaged
--         A name of "" with wrong_type: one of these keys itself.
-- A job that is on the agenda and missing in `jobs` is added to it; an agenda entry without a job is removed. A parent
-- that does not know its child is told; what it did meanwhile may be what that child waits for, which a beat looks at.
--
-- One step, because reading the keys one by one while beats claim would find differences that are none.
--@ parents
--@ types

if wrong_type({KEYS[1], 'set', KEYS[2], 'zset', KEYS[3], 'zset'}) then
    return cjson.encode({jobs = '0', agenda = '0', seen = {{'', 'wrong_type', '', '', '', '', '', ''}}})
end
local function whole_template(job)
    local needed = redis.call('HMGET', job .. ':template', 'data', 'origin', 'timeout')
    return needed[1] and needed[2] and needed[3]
end
local function failed(reply) return type(reply) == 'table' and reply.err end
local listed = redis.call('ZSCAN', KEYS[2], ARGV[3], 'COUNT', ARGV[4])
for i = 1, #listed[2], 2 do
    local name = listed[2][i]
    if redis.call('SISMEMBER', KEYS[1], name) == 0 then
        if redis.call('EXISTS', ARGV[1] .. ':job:' .. name) == 1 then
            redis.call('SADD', KEYS[1], name)
        else
            redis.call('ZREM', KEYS[2], name)
        end
    end
end
local seen = {}
local found = redis.call('SSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[4])
for _, name in ipairs(found[2]) do
    local job = ARGV[1] .. ':job:' .. name
    local known = redis.pcall('HMGET', job, 'version', 'scheduled', 'spec', 'layout', 'trigger')
    local state = redis.pcall('HMGET', job .. ':state', 'mark', 'ticks', 'held', 'in_line')
    local score = redis.call('ZSCORE', KEYS[2], name)
    local what = ''
    local is_wrong = failed(known) or failed(state) or not fits(job .. ':children', 'hash')
    if is_wrong or known[5] and wrong_type({job .. ':active', 'hash', job .. ':runs', 'zset',
            job .. ':behind', 'zset', job .. ':template', 'hash'}) then
        seen[#seen + 1] = {name, 'wrong_type', '', '', '', '', '', ''}
    elseif (tonumber(known[4] or '') or 1) <= tonumber(ARGV[5]) then
        if not known[1] or not known[3] then
            what = 'undefined'
        elseif redis.call('EXISTS', job .. ':template') == 0 or known[5] and not whole_template(job) then
            what = 'untemplated'
        end
        for parent, options in pairs(read_parents(job)) do
            local children = children_key(job, name, parent)
            if not fits(children, 'hash') then
                seen[#seen + 1] = {parent, 'wrong_type', '', '', '', '', '', ''}
            elseif redis.call('HEXISTS', children, name) == 0 then
                redis.call('HSET', children, name, cjson.encode(options))
                if known[5] then redis.pcall('SADD', ARGV[1] .. ':untriggered', name) end
            end
        end
        local held = state[4] and (tonumber(state[4]) or 0) > (tonumber(state[1] or '') or 0)
            and redis.call('ZSCORE', KEYS[3], name .. ':' .. state[4])
        seen[#seen + 1] = {
            name, what, state[1] or '', score or '', known[3] or '', state[2] or '', held and state[3] or '',
            known[5] or '',
        }
    end
end
return cjson.encode({jobs = found[1], agenda = listed[1], seen = #seen > 0 and seen or nil})
