-- Forgets consumers that hold nothing and have not asked for long. One that lives is there again when it gets an entry.
-- KEYS[1]: the stream. ARGV: the group, the consumer that asks, ms.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local gone = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local of = {}
  for i = 1, #consumer, 2 do of[consumer[i]] = consumer[i + 1] end
  if of['name'] ~= ARGV[2] and of['pending'] == 0 and of['idle'] > tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], of['name'])
    gone = gone + 1
  end
end
return gone
