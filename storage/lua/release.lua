-- KEYS: the keys of a group. ARGV: our token. Deletes the locks that are ours and nothing else.
local lock = 'L' .. ARGV[1]
local released = 0
for _, key in ipairs(KEYS) do
    if redis.call('GET', key) == lock then
        released = released + redis.call('DEL', key)
    end
end
return released
