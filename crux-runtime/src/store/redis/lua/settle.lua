-- Clears the unsettled flag of instances whose journal has not grown since, whichever node asks.
-- Foreign data under one instance's keys does not affect the others. KEYS[1]: the base of their
-- tag. ARGV: instance, seq and wake-up of each, '' for none.
local base = KEYS[1]
for n = 1, #ARGV, 3 do
    local id, seq, wake = ARGV[n], tonumber(ARGV[n + 1]), ARGV[n + 2]
    local record = base .. ':instance:' .. id
    local fields = redis.pcall('HMGET', record, 'node', 'wake', 'over')
    if seq > 0 and not fields.err and redis.pcall('LLEN', base .. ':journal:' .. id) == seq then
        local marked, old, over = unpack(fields)
        if marked then
            redis.call('HDEL', record, 'node')
            redis.call('ZREM', base .. ':unsettled', id)
        end
        if old and old ~= wake then
            redis.call('HDEL', record, 'wake')
            redis.call('ZREM', base .. ':wake', old)
        end
        if wake ~= '' and old ~= wake then
            redis.call('HSET', record, 'wake', wake)
            redis.call('ZADD', base .. ':wake', 0, wake)
        end
        if over then
            redis.call('ZADD', base .. ':over', 0, over)
        end
    end
end
