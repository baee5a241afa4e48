-- Finds the open runs of some jobs that are in one state.
--
-- KEYS  1 jobs
-- ARGV  1 prefix   2 cursor over the jobs   3 about how many jobs   4 open runs of a job that are read at once
--       5 the state
-- Returns JSON {cursor: the next one ("0" at the end), runs: [run id…], sets: [key…]}
--         sets: the HASHes of open runs of a job that hold more than that; they are to be read piece by piece
--
-- One step, because a round trip for each job, of which most have no open run, would cost more than all other work of
-- an idle beat. It writes nothing.
local few = tonumber(ARGV[4])
local found = redis.call('SSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
local runs, sets = {}, {}
for _, name in ipairs(found[2]) do
    for _, set in ipairs({':active', ':given'}) do
        local open = ARGV[1] .. ':job:' .. name .. set
        local count = redis.pcall('HLEN', open)  -- an error, as a table, when it is of a wrong type
        if type(count) == 'number' and count > few then
            sets[#sets + 1] = open
        elseif type(count) == 'number' and count > 0 then
            local flat = redis.call('HGETALL', open)
            for i = 1, #flat, 2 do
                if flat[i + 1] == ARGV[5] then runs[#runs + 1] = flat[i] end
            end
        end
    end
end
return cjson.encode({cursor = found[1], runs = #runs > 0 and runs or nil, sets = #sets > 0 and sets or nil})
