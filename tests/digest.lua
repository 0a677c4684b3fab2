-- One digest over all that a Redis holds, whatever the order in which it keeps it: a line for each database, its number of keys, SHA-1.
local call = redis.call
local function text(value)
  if type(value) ~= 'table' then return tostring(value) end
  local parts = {}
  for i = 1, #value do
    -- how a stream is laid out in memory is not what it holds
    if not (type(value[i - 1]) == 'string' and value[i - 1]:match('^radix%-tree')) then parts[#parts + 1] = text(value[i]) end
  end
  return '[' .. table.concat(parts, '\1') .. ']'
end
local function pairs_of(list)
  local out = {}
  for i = 1, #list, 2 do out[#out + 1] = list[i] .. '\2' .. list[i + 1] end
  table.sort(out)
  return table.concat(out, '\1')
end
local read = {
  string = function(key) return call('GET', key) end,
  list = function(key) return text(call('LRANGE', key, 0, -1)) end,
  set = function(key)
    local all = call('SMEMBERS', key)
    table.sort(all)
    return text(all)
  end,
  zset = function(key) return text(call('ZRANGE', key, 0, -1, 'WITHSCORES')) end,
  stream = function(key) return text(call('XRANGE', key, '-', '+')) .. text(call('XINFO', 'STREAM', key, 'FULL', 'COUNT', 0)) end,
  hash = function(key)
    local all, times = call('HGETALL', key), {}
    for i = 1, #all, 2 do times[#times + 1] = all[i] .. '\3' .. call('HPEXPIRETIME', key, 'FIELDS', 1, all[i])[1] end
    table.sort(times)
    return pairs_of(all) .. table.concat(times, '\1')
  end,
}
local out = {}
for db = 0, 15 do
  call('SELECT', db)
  local keys, sum = call('KEYS', '*'), ''
  table.sort(keys)
  for _, key in ipairs(keys) do
    local kind = call('TYPE', key).ok
    sum = redis.sha1hex(sum .. key .. '\4' .. kind .. '\4' .. call('PEXPIRETIME', key) .. '\4' .. read[kind](key))
  end
  if #keys > 0 then out[#out + 1] = 'db' .. db .. ' ' .. #keys .. ' ' .. sum end
end
return out
