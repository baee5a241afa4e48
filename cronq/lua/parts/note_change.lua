--@ types
-- Part of the scripts that change a job. Puts *note* (jobs/change_notes) at the head of the list *key*, which keeps the
-- last 20; *what* is the word of the stream of events for it. Nothing of it may keep the change back.
local function note_change(key, what, note)
    if not note or not fits(key, 'list') then return end
    note.what = what
    redis.call('LPUSH', key, cjson.encode(note))
    redis.call('LTRIM', key, 0, 19)
end
