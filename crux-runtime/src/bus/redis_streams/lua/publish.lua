-- Adds an entry, if anybody is there to read it and there is room.
-- KEYS[1]: the stream. ARGV: the most entries that it may have, then names and values of the fields.
-- 'nobody': it has no group. 'full': it has as many entries as it may, that are not acknowledged.
local key, most = KEYS[1], tonumber(ARGV[1])
local groups = groups_of(key)
if #groups == 0 then return 'nobody' end
if redis.call('XLEN', key) >= most then
  trim(key, groups)
  if redis.call('XLEN', key) >= most then return 'full' end
end
redis.call('XADD', key, '*', unpack(ARGV, 2))
return 'done'
