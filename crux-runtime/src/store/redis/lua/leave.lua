-- A node is gone: it says so itself, or another knows it.
-- KEYS[1]: the base of the registry's tag. ARGV: node.
local base, node = KEYS[1], ARGV[1]
if redis.call('ZREM', base .. ':nodes', node) == 1 then
    redis.call('HDEL', base .. ':about', node)
    redis.call('SADD', base .. ':gone', node)
end
