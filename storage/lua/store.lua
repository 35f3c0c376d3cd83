-- KEYS: the keys of a group. ARGV: how many milliseconds answers are kept, then one value per key.
-- What was committed replaces whatever stands there, a lock as well, so nobody sees a key without either.
for place, key in ipairs(KEYS) do
    redis.call('SET', key, ARGV[place + 1], 'PX', ARGV[1])
end
return #KEYS
