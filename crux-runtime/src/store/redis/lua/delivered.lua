-- Events of one name that have reached everybody.
-- KEYS[1]: the base of the name's tag. ARGV: the name as part of keys, their ids.
local base, name = KEYS[1], ARGV[1]
for n = 2, #ARGV do
    local id = ARGV[n]
    local key = base .. ':event:' .. name .. ':' .. id
    local number, keep_until = unpack(redis.call('HMGET', key, 'number', 'keep_until'))
    if number then
        redis.call('ZREM', base .. ':undelivered', number .. ':' .. name .. ':' .. id)
        redis.call('ZADD', base .. ':past', 0, string.format('%015.0f:', math.max(0, tonumber(keep_until))) .. name .. ':' .. id)
    end
end
