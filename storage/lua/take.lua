-- KEYS: the keys of a group. ARGV: our token, the lock's milliseconds.
-- For each key: its answer where there is one; 1 where the lock is ours now or was before; 0 where it is somebody else's.
-- A lock is 'L' and its owner's token, an answer is 'A' and its bytes.
local lock = 'L' .. ARGV[1]
local found = redis.call('MGET', unpack(KEYS))
for place, value in ipairs(found) do
    if not value then
        redis.call('SET', KEYS[place], lock, 'PX', ARGV[2])
        found[place] = 1
    elseif value == lock then
        found[place] = 1
    elseif string.byte(value) == 76 then
        found[place] = 0
    end
end
return found
