-- Adds an entry, if there is room. KEYS[1]: the stream. ARGV: the most entries that it may have, then names and values of the fields.
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return redis.error_reply('FULL there is no room in ' .. KEYS[1]) end
return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
