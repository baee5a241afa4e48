-- Part of claim and trigger: pauses of jobs and queues as the ledger tells of them.

-- Returns true if *pause*, JSON, covers *instant*. One that cannot be read is none here: a beat has read it its own
-- way.
local function covers(pause, instant)
    local fine, held = pcall(cjson.decode, pause)
    if not fine or type(held) ~= 'table' then return false end
    local ends = held['until']
    if ends == nil or ends == cjson.null then return true end
    ends = tonumber(ends)
    return ends ~= nil and instant < ends
end

-- Who holds a pause, from its JSON, and with what note; and its other fields. One that cannot be read holds.
local function holder_of(pause)
    local fine, held = pcall(cjson.decode, pause)
    if not fine or type(held) ~= 'table' then held = {} end
    local by = type(held.by) == 'string' and held.by or 'somebody'
    local note = type(held.note) == 'string' and held.note ~= '' and ': ' .. string.sub(held.note, 1, 1000) or ''
    return ' by ' .. by .. note, held
end
