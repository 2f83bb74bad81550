-- Events that are still kept, oldest first: id, value (false: none), data, time, end of keeping, owner and trace of each.
-- KEYS[1]: the base of the name's tag. ARGV: the name as part of keys, the index to read, now.
local base, now = KEYS[1], tonumber(ARGV[3])
local events = {}
for _, member in ipairs(redis.call('ZRANGE', base .. ARGV[2], 0, -1)) do
    local id = string.match(member, '^%d+:(.*)$')
    local fields = redis.call('HMGET', base .. ':event:' .. ARGV[1] .. ':' .. id, 'value', 'data', 'at', 'keep_until',
        'owner', 'traceparent')
    if fields[4] and tonumber(fields[4]) > now then
        events[#events + 1] = { id, fields[1], fields[2], fields[3], fields[4], fields[5], fields[6] }
    end
end
return events
