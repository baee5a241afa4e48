-- Part of claim, of interop's serve and read_due, and of note_pass. Returns what Redis says when it refuses all writes
-- just now (no memory, no disk, a replica), nil for any other error. It does so from the first write of a script or not
-- at all, so nothing is half done.
local function refusal(message)
    for _, word in ipairs({'OOM', 'READONLY', 'MISCONF', 'NOREPLICAS'}) do
        local at = string.find(message, word .. ' ', 1, true)
        if at then return (string.gsub(string.sub(message, at), '%s+$', '')) end
    end
    return nil
end
