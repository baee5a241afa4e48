--@ rq
--@ types
-- Part of settle and reject. Appends *fields* to RQ's result stream of a job, for *life* seconds, unless that key
-- is of another type. Redis reserves 4 KB for a stream that has just begun; its copy takes what it holds, which is a
-- tenth of that. Nobody meets the copy under its own name.
local function keep_result(id, fields, life)
    local stream = RQ .. 'results:' .. id
    local copy = stream .. ':copy'
    if not fits(stream, 'stream') then return end
    redis.call('XADD', stream, 'MAXLEN', 10, '*', unpack(fields))
    redis.call('COPY', stream, copy, 'REPLACE')
    redis.call('RENAME', copy, stream)
    redis.call('EXPIRE', stream, life)
end
