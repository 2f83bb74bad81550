-- A consumer stops: its entries may be taken over immediately; without any it is deleted. KEYS[1]:
-- the stream. ARGV: the group, the consumer, ms after which what a consumer holds may be taken
-- over.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local held = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000, ARGV[2])
if #held == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
  return 0
end
local ids = {}
for n, entry in ipairs(held) do ids[n] = entry[1] end
local claim = { 'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0 }
for _, id in ipairs(ids) do claim[#claim + 1] = id end
for _, word in ipairs({ 'IDLE', ARGV[3], 'JUSTID' }) do claim[#claim + 1] = word end
redis.call(unpack(claim))
return #ids
