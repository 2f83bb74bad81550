-- Acknowledges entries, and removes them if no other group wants them.
-- KEYS[1]: the stream. ARGV: the group, then ids.
local acknowledged = redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
if redis.call('EXISTS', KEYS[1]) == 1 and #redis.call('XINFO', 'GROUPS', KEYS[1]) == 1 then
  redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
end
return acknowledged
