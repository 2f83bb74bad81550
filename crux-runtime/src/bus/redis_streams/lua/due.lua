-- Entries that are older than so many ms by the server's clock, the oldest first. Each moves to the stream's end, under the id that
-- is answered: who takes it to where it belongs deletes it then, and nobody else sees it in the meantime.
-- KEYS[1]: the stream. ARGV: ms, how many at most.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local due = redis.call('XRANGE', KEYS[1], '-', string.format('%.0f', now - tonumber(ARGV[1])), 'COUNT', ARGV[2])
for _, entry in ipairs(due) do
  redis.call('XDEL', KEYS[1], entry[1])
  entry[1] = redis.call('XADD', KEYS[1], '*', unpack(entry[2]))
end
return due
