-- Part of enqueue. Returns the id of an open run of *job* (its key), nil when there is none: of a tick if there is such
-- a one, else by hand, delayed or requeued. Entries that the ledger does not know as open do not count; it looks at
-- some thousand of a set, beyond which no set is made of such alone.
local function open_run(rows, job)
    for _, set in ipairs({job .. ':active', job .. ':given'}) do
        local cursor = '0'
        for _ = 1, 20 do
            local found = redis.pcall('HSCAN', set, cursor, 'COUNT', 100)
            if found.err then break end  -- of a wrong type: it holds no run
            cursor = found[1]
            for i = 1, #found[2], 2 do
                local state = redis.pcall('HGET', rows .. found[2][i], 'state')
                if type(state) == 'string' and state ~= 'done' then return found[2][i] end
            end
            if cursor == '0' then break end
        end
    end
    return nil
end
