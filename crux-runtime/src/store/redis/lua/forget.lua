-- Removes an event that was delivered and is past its time.
-- KEYS[1]: the base of the name's tag. ARGV: its entry among those past their time, the name as part of keys, id, index of its value ('' for
-- none).
local base, name, id = KEYS[1], ARGV[2], ARGV[3]
local key = base .. ':event:' .. name .. ':' .. id
local number = redis.call('HGET', key, 'number')
redis.call('ZREM', base .. ':past', ARGV[1])
if number then
    redis.call('ZREM', base .. ':kept_any:' .. name, number .. ':' .. id)
    if ARGV[4] ~= '' then
        redis.call('ZREM', base .. ':kept:' .. ARGV[4], number .. ':' .. id)
    end
    redis.call('UNLINK', key)
end
