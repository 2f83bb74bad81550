-- Removes instances whose time of keeping is over, with all that belongs to them. How many went.
-- KEYS[1]: the base of their tag. ARGV: now, the instances.
local base, now, count = KEYS[1], ARGV[1], 0
for n = 2, #ARGV do
    local id = ARGV[n]
    local record = base .. ':instance:' .. id
    -- The state of a key overwritten by another program is unknown.
    local fields = redis.pcall('HMGET', record, 'node', 'over', 'status', 'workflow', 'owner', 'request', 'wake')
    local marked, over, status, workflow, owner, request, wake = unpack(fields)
    if over and not marked and string.sub(over, 1, #now) <= now then
        redis.call('ZREM', base .. ':over', over)
        redis.call('ZREM', base .. ':all', id)
        redis.call('ZREM', base .. ':status:' .. status, id)
        redis.call('ZREM', base .. ':workflow:' .. workflow .. ':' .. status, id)
        if owner ~= '' then
            redis.call('ZREM', base .. ':owner:' .. owner, id)
        end
        if wake then
            redis.call('ZREM', base .. ':wake', wake)
        end
        if request then
            redis.call('DEL', base .. ':request:' .. request)
        end
        redis.call('UNLINK', base .. ':journal:' .. id, record)
        count = count + 1
    end
end
return count
