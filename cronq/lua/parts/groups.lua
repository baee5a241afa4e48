-- Part of begin and renew. Returns true if *host* is in the group *name*, or in one that is in it, to any depth; false
-- if it is not; nil when there is no such group. An entry that is the name of a group is that group, whatever else it
-- may be; a group that is in itself adds nothing.
local function is_in_group(prefix, name, host)
    local key, seen, open = prefix .. ':groups', {[name] = true}, {}
    open[1] = redis.pcall('HGET', key, name)
    if type(open[1]) ~= 'string' then return nil end
    while #open > 0 do
        for entry in string.gmatch(table.remove(open), '%S+') do
            if not seen[entry] then
                seen[entry] = true
                local members = redis.pcall('HGET', key, entry)
                if type(members) == 'string' then
                    open[#open + 1] = members
                elseif entry == host then
                    return true
                end
            end
        end
    end
    return false
end
