-- Marks instances as this node's, unless a node that lives carries them.
-- KEYS[1]: the base of their tag. ARGV: this node, the newest node that is known, how many live, their numbers, how many definitions this
-- node has (0: whatever there is), their hashes, the instances.
-- Answers the instances that are this node's now.
local base, node, newest = KEYS[1], ARGV[1], tonumber(ARGV[2])
local lives, first = {}, 4 + tonumber(ARGV[3])
for n = 4, first - 1 do
    lives[ARGV[n]] = true
end
local runs, hashes = {}, tonumber(ARGV[first])
for n = first + 1, first + hashes do
    runs[ARGV[n]] = true
end
first = first + hashes + 1
if redis.call('SISMEMBER', base .. ':fenced', node) == 1 then
    return {}
end
local claimed = {}
for n = first, #ARGV do
    local id = ARGV[n]
    local record = base .. ':instance:' .. id
    -- The state of a key overwritten by another program is unknown.
    local fields = redis.pcall('HMGET', record, 'status', 'node', 'wake', 'over', 'definition')
    local status, marked, wake, over, definition = unpack(fields)
    -- A node that is newer than what this one knows of lives.
    local taken = marked and marked ~= node and (lives[marked] or tonumber(marked) > newest)
    if status and not taken and (hashes == 0 or runs[definition]) then
        if marked ~= node then
            redis.call('HSET', record, 'node', node)
        end
        if not marked then
            redis.call('ZADD', base .. ':unsettled', 0, id)
            if over then
                redis.call('ZREM', base .. ':over', over)
            end
        end
        if wake then
            redis.call('HDEL', record, 'wake')
            redis.call('ZREM', base .. ':wake', wake)
        end
        claimed[#claimed + 1] = id
    end
end
return claimed
