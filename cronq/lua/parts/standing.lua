-- Part of claim and of turn. Returns the open run of an earlier tick that stands in the way of a new one, and its
-- state; nil when there is none. *rows* is what the keys of rows begin with, *job* the key of the job, *open* how many
-- runs its `active` holds. A run that waits stands in no way, unless *and_parked*: then one that waits for a lock does.
-- Nor does one of a backfill: however many past ticks somebody has run, those of now go on.
--
-- Entries that the ledger does not know as open are dropped: a stray field here would otherwise silence the job for
-- ever. Runs without a tick, which the release before kept here too, are moved to where they belong; should there be
-- thousands, each tick moves a part.
local function standing(rows, job, open, and_parked)
    local active, given, cursor = job .. ':active', job .. ':given', '0'
    local function fails(reply) return type(reply) == 'table' and reply.err end
    if open > 100 then  -- among so many it may be found late, and mostly it is one of the last ticks
        for _, id in ipairs(redis.call('ZREVRANGE', job .. ':runs', 0, 19)) do
            local row = redis.pcall('HMGET', rows .. id, 'state', 'trigger')
            local state = row[1]
            local is_open = state == 'queued' or state == 'running' or state == 'retrying'
            if is_open and row[2] ~= 'backfill' then return id, state end
        end
    end
    for _ = 1, and_parked and 200 or 5 do
        local found = redis.call('HSCAN', active, cursor, 'COUNT', and_parked and 500 or 100)
        cursor = found[1]
        for i = 1, #found[2], 2 do
            local id = found[2][i]
            local row = redis.pcall('HMGET', rows .. id, 'state', 'tick', 'lock', 'trigger')
            if fails(row) or not row[1] or row[1] == 'done' then
                redis.call('HDEL', active, id)
            elseif not row[2] then
                if not fails(redis.pcall('HSET', given, id, row[1])) then redis.call('HDEL', active, id) end
            elseif row[4] ~= 'backfill' and (row[1] ~= 'waiting' or (and_parked and row[3])) then
                return id, row[1]
            end
        end
        if cursor == '0' then break end
    end
    return nil
end
