--@ event
--@ rq
--@ types
-- Part of the scripts that end runs: functions that most runs do not need. A script makes each of its functions anew
-- whenever it is called, which takes as long as a command: so these are made when the first of them is needed.
local function make_rare()
--@ count_failure
--@ in_order
--@ keep_attempt
--@ keep_result
--@ open_gates
--@ open_set
--@ trigger
--@ trim
--@ turn
--@ undo_start
--@ wake_waiter
    return {count_failure = count_failure, keep_attempt = keep_attempt, keep_result = keep_result,
        leave_gates = leave_gates, let_go_on = let_go_on, next_turn = next_turn, open_gates = open_gates,
        open_set = open_set, trigger_children = trigger_children, trim = trim, undo_start = undo_start,
        wake_waiter = wake_waiter}
end

local made_rare
local function rare()
    if not made_rare then made_rare = make_rare() end
    return made_rare
end
