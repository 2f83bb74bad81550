-- Before which entry of a stream all groups have acknowledged everything; nothing before it is needed any more.
local function number(id)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(n)
end

local function is_before(one, other)
  local ms, n = number(one)
  local other_ms, other_n = number(other)
  return ms < other_ms or (ms == other_ms and n < other_n)
end

local function needed_from(key, groups)
  local first
  for _, group in ipairs(groups) do
    local of = {}
    for i = 1, #group, 2 do of[group[i]] = group[i + 1] end
    local from
    if of['pending'] > 0 then
      from = redis.call('XPENDING', key, of['name'])[2]
    else
      local ms, n = number(of['last-delivered-id'])
      from = string.format('%.0f-%.0f', ms, n + 1)
    end
    if not first or is_before(from, first) then first = from end
  end
  return first
end

-- Without a group nobody can have acknowledged anything.
local function trim(key, groups)
  local from = needed_from(key, groups)
  if from then redis.call('XTRIM', key, 'MINID', from) end
end

local function groups_of(key)
  if redis.call('EXISTS', key) == 0 then return {} end
  return redis.call('XINFO', 'GROUPS', key)
end
