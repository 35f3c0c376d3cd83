-- KEYS: the buckets of a group. ARGV: per bucket its quota, its window in seconds, how many tokens are wanted and the
-- least that helps. A bucket is the time at which it is full again, in seconds since 2026; one that is full is not kept.
-- For each: tokens granted, tokens left, and the microseconds until asking again may help and until it is full. The arithmetic is that of runtime/limits.py.
local time = redis.call('TIME')
local now = time[1] - 1767225600 + time[2] / 1000000
local grants = {}
for place, key in ipairs(KEYS) do
    local quota, window = tonumber(ARGV[4 * place - 3]), tonumber(ARGV[4 * place - 2])
    local wanted, least = tonumber(ARGV[4 * place - 1]), tonumber(ARGV[4 * place])
    local each = window / quota
    local full_at = math.max(tonumber(redis.call('GET', key) or 0), now)
    local free = math.max(0, math.floor((window - (full_at - now)) / each + 1e-6))
    local tokens = 0
    if free >= least then
        tokens = math.min(wanted, free)
    end
    full_at = full_at + tokens * each
    local left = free - tokens
    local missing, more = 1, 0
    if tokens == 0 then
        missing = least
    end
    if left < missing then
        more = math.max(0, full_at + missing * each - window - now)
    end
    if tokens > 0 then
        redis.call('SET', key, string.format('%.9f', full_at), 'PX', math.ceil((full_at - now) * 1000) + 1)
    end
    grants[4 * place - 3] = tokens
    grants[4 * place - 2] = left
    grants[4 * place - 1] = math.ceil(more * 1000000)
    grants[4 * place] = math.ceil((full_at - now) * 1000000)
end
return grants
