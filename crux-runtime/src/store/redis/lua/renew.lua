-- A node's lease: taken the first time, renewed from then on, both by the server's clock.
-- KEYS[1]: the base of the registry's tag. ARGV: node ('' the first time), lease in ms, what the node says of itself, the store's birth id.
-- Answers the node's number (0: another node took its lease for over; -1: this is not the store that it knows), the newest number, the numbers of nodes that live, of nodes that
-- are gone and not fenced off yet, and what those that live say of themselves.
local base, node, lease = KEYS[1], ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if redis.call('GET', base .. ':birth') ~= ARGV[4] then
    return { -1 }
end
local nodes, gone, about = base .. ':nodes', base .. ':gone', base .. ':about'
if node == '' then
    node = tostring(redis.call('INCR', base .. ':node'))
elseif not redis.call('ZSCORE', nodes, node) then
    return { 0 }
end
redis.call('ZADD', nodes, now + lease, node)
redis.call('HSET', about, node, ARGV[3])
for _, over in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', '(' .. now)) do
    redis.call('ZREM', nodes, over)
    redis.call('HDEL', about, over)
    redis.call('SADD', gone, over)
end
local live = redis.call('ZRANGE', nodes, 0, -1)
local words = {}
for n, one in ipairs(live) do
    words[n] = redis.call('HGET', about, one) or ''
end
return { tonumber(node), tonumber(redis.call('GET', base .. ':node')), live, redis.call('SMEMBERS', gone), words }
