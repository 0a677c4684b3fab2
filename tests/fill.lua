-- A filled Redis: 50,000 keys of every type and encoding, in two databases, binary names and values, expiries of keys and fields, groups.
-- Nothing expires within the day but what is asked for; the same every time.
local call, n = redis.call, 50000
for i = 1, n do
  local key, kind = 'key:' .. i, i % 10
  if kind < 4 then call('SET', key, string.rep(string.char(i % 256), i % 300) .. i)
  elseif kind == 4 then call('SET', key, i)
  elseif kind == 5 then
    for f = 1, i % 7 + 1 do call('HSET', key, 'field' .. f, i * f) end
  elseif kind == 6 then
    for e = 1, i % 5 + 1 do call('RPUSH', key, 'item' .. e * i) end
  elseif kind == 7 then
    for m = 1, i % 6 + 1 do call('SADD', key, m % 2 == 0 and m * i or 'member' .. m) end
  elseif kind == 8 then
    for m = 1, i % 6 + 1 do call('ZADD', key, m / 3 + i, 'm' .. m) end
  else call('SET', key, i, 'PXAT', 4000000000000 + i)
  end
end
for i = 1, 2000 do
  call('HSET', 'large:hash', 'f' .. i, string.rep('v', i % 100))
  call('SADD', 'large:set', 'm' .. i)
  call('ZADD', 'large:zset', i * 1.5, 'm' .. i)
  call('RPUSH', 'large:list', string.rep('x', i % 50) .. i)
  call('XADD', 'large:stream', i .. '-1', 'n', i, 'text', 'event ' .. i)
end
call('XDEL', 'large:stream', '7-1', '2000-1')
call('XGROUP', 'CREATE', 'large:stream', 'readers', '0')
call('XREADGROUP', 'GROUP', 'readers', 'one', 'COUNT', 20, 'STREAMS', 'large:stream', '>')
call('XACK', 'large:stream', 'readers', '3-1', '4-1')
call('XGROUP', 'CREATE', 'large:stream', 'nobody', '$')
call('SET', '\0\255\n binary key', '\0\r\n\255')
call('SETBIT', 'bits', 100000, 1)
call('PFADD', 'visitors', 'a', 'b', 'c')
call('GEOADD', 'places', 13.4, 52.5, 'here')
call('HSET', 'fields', 'stays', 1, 'goes', 2)
call('HPEXPIREAT', 'fields', 4000000000000, 'FIELDS', 1, 'goes')
call('SELECT', 3)
for i = 1, 500 do call('SET', 'other:' .. i, i, 'PXAT', 4100000000000) end
call('SET', 'stays', 'here')
return 'filled'
