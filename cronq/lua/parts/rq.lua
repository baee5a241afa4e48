-- Part of every script that names a key of RQ. What those keys begin with, as `db/keys.py` has it.
local RQ = '{RQ}'
