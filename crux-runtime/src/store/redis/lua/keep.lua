-- Keeps events of one name. For each whether it is new: 1, or 0.
-- KEYS[1]: the base of the name's tag. ARGV: token, the name as part of keys, whether replicas are waited for; then id, index of its value
-- ('' for none), value, data, time, end of keeping, owner and trace of each.
local base, token, name = KEYS[1], ARGV[1], ARGV[2]
local fresh = {}
for n = 4, #ARGV, 8 do
    local id = ARGV[n]
    local key = base .. ':event:' .. name .. ':' .. id
    -- One event may come twice in one call.
    local mine = token .. ' ' .. n
    local theirs = redis.call('HGET', key, 'token')
    if not theirs then
        local time = redis.call('TIME')
        local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
        local last = tonumber(redis.call('GET', base .. ':events') or '0')
        local number = string.format('%016.0f', math.max(now, last + 1))
        redis.call('SET', base .. ':events', number)
        redis.call('HSET', key, 'token', mine, 'number', number, 'data', ARGV[n + 3], 'at', ARGV[n + 4], 'keep_until', ARGV[n + 5],
            'owner', ARGV[n + 6], 'traceparent', ARGV[n + 7])
        if ARGV[n + 1] ~= '' then
            redis.call('HSET', key, 'value', ARGV[n + 2])
            redis.call('ZADD', base .. ':kept:' .. ARGV[n + 1], 0, number .. ':' .. id)
        end
        redis.call('ZADD', base .. ':kept_any:' .. name, 0, number .. ':' .. id)
        redis.call('ZADD', base .. ':undelivered', 0, number .. ':' .. name .. ':' .. id)
    elseif ARGV[3] == '1' then
        redis.call('SET', base .. ':again', token)
    end
    -- The same call again, whose first answer got lost, is answered as the first.
    fresh[#fresh + 1] = (not theirs or theirs == mine) and 1 or 0
end
return fresh
