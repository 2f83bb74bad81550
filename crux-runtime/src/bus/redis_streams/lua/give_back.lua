-- Puts an entry that nobody has begun with at the end, for any consumer.
-- KEYS[1]: the stream. ARGV: the group, the entry's id.
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
if #found == 0 then return 0 end
redis.call('XADD', KEYS[1], '*', unpack(found[1][2]))
if #redis.call('XINFO', 'GROUPS', KEYS[1]) == 1 then redis.call('XDEL', KEYS[1], ARGV[2]) end
return 1
