-- Nodes that are gone write nothing more in this tag: their marks would be nobody's.
-- KEYS[1]: the tag's base. ARGV: the nodes.
local fenced = KEYS[1] .. ':fenced'
redis.call('SADD', fenced, unpack(ARGV))
-- Ignores a node that still runs after so many later ones have started. As integers they come in
-- order.
local all = redis.call('SCARD', fenced) > 400 and redis.call('SMEMBERS', fenced) or {}
for n = 1, #all - 300 do
    redis.call('SREM', fenced, all[n])
end
