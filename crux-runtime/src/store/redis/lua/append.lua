-- One row of one instance. Everything is checked before anything is written: Redis does not undo what a script has done.
-- KEYS[1]: the base of the instance's tag.
-- ARGV: instance, seq, token, row, settled, node, whether replicas are waited for, and, where the record changes, status, end, time of
-- removal; with row 1 also workflow, version, definition, owner, start, key and value of the request id.
local base, id = KEYS[1], ARGV[1]
local seq, token, settled, node = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[5]), ARGV[6]
local status, ended_at, over = ARGV[8], ARGV[9], ARGV[10]
local workflow, owner, request = ARGV[11], ARGV[14], ARGV[16]
local journal, record = base .. ':journal:' .. id, base .. ':instance:' .. id

local have = redis.call('LLEN', journal)
if seq < 1 then
    return { 'zero' }
end
if seq > have + 1 then
    return { 'lost', have }
end
if seq <= have then
    local rows = redis.call('LRANGE', journal, seq - 1, -1)
    if string.match(rows[1], '^%d+ (%d+) ') ~= token then
        return { 'behind', rows }
    end
    if ARGV[7] == '1' then
        -- Replicas are waited for by what this connection wrote: without its own write it would
        -- wait for nothing.
        redis.call('SET', base .. ':again', token)
    end
    return { 'same' }
end
if have == 0 then
    if not workflow then
        return { 'lost', 0 }
    end
    local used = request ~= '' and redis.call('GET', base .. ':request:' .. request)
    if used then
        return { 'used', used }
    end
end
if redis.call('SISMEMBER', base .. ':fenced', node) == 1 then
    return { 'fenced' }
end

local marked, wake, old_over, was = false, false, false, false
if have > 0 then
    local known
    marked, wake, old_over, was, known = unpack(redis.call('HMGET', record, 'node', 'wake', 'over', 'status', 'workflow'))
    if marked and marked ~= node then
        return { 'owned', marked }
    end
    workflow = known
end

if have == 0 then
    redis.call('HSET', record, 'workflow', workflow, 'version', ARGV[12], 'definition', ARGV[13], 'owner', owner, 'started_at', ARGV[15])
    redis.call('ZADD', base .. ':all', 0, id)
    if owner ~= '' then
        redis.call('ZADD', base .. ':owner:' .. owner, 0, id)
    end
    if request ~= '' then
        redis.call('SET', base .. ':request:' .. request, ARGV[17])
        redis.call('HSET', record, 'request', request)
    end
    if status == '' then
        status = 'pending'
    end
end
redis.call('RPUSH', journal, settled .. ' ' .. token .. ' ' .. ARGV[4])

if settled < seq then
    if not marked then
        redis.call('HSET', record, 'node', node)
        redis.call('ZADD', base .. ':unsettled', 0, id)
    end
elseif marked then
    redis.call('HDEL', record, 'node')
    redis.call('ZREM', base .. ':unsettled', id)
end
if wake then
    redis.call('HDEL', record, 'wake')
    redis.call('ZREM', base .. ':wake', wake)
end
if status ~= '' then
    if status ~= was then
        if was then
            redis.call('ZREM', base .. ':status:' .. was, id)
            redis.call('ZREM', base .. ':workflow:' .. workflow .. ':' .. was, id)
        end
        redis.call('ZADD', base .. ':status:' .. status, 0, id)
        redis.call('ZADD', base .. ':workflow:' .. workflow .. ':' .. status, 0, id)
        redis.call('HSET', record, 'status', status)
    end
    if ended_at ~= '' then
        redis.call('HSET', record, 'ended_at', ended_at, 'over', over)
    elseif old_over then
        redis.call('HDEL', record, 'ended_at', 'over')
    end
else
    over = old_over or ''
end
-- What may be removed in time is what has ended and is settled.
if old_over then
    redis.call('ZREM', base .. ':over', old_over)
end
if over ~= '' and settled >= seq then
    redis.call('ZADD', base .. ':over', 0, over)
end
-- Notifies followers at other nodes. Nearly free without any; errors are ignored, for the row is
-- written.
redis.pcall('SPUBLISH', base .. ':live:' .. id, seq)
return { 'done' }
