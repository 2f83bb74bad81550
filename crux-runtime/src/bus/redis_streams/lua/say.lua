-- Adds an entry that is only for those who read right now. KEYS[1]: the stream. ARGV: how many are kept, then names and values of the fields.
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, 2))
return 'done'
