-- Removes what every group has acknowledged. KEYS[1]: the stream.
trim(KEYS[1], groups_of(KEYS[1]))
return redis.status_reply('OK')
