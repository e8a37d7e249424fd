"""What must happen in the server at once, in Lua; each runs on any replica of one hash slot."""

from __future__ import annotations

from shared_core.stores.redis_connection import Script

PUT = Script("""
-- KEYS: record, bumps, epochs... ARGV: life in ms or '', a new number, fields and values...
local fields = {unpack(ARGV, 3)}
local stamps = {}
for i = 3, #KEYS do
    redis.call('SET', KEYS[i], ARGV[2], 'NX')
    stamps[i - 2] = redis.call('GET', KEYS[i])
end
if #stamps > 0 then
    redis.call('SET', KEYS[2], ARGV[2], 'NX')
    fields[#fields + 1] = 'e'
    fields[#fields + 1] = table.concat(stamps, ',')
end
local old = redis.pcall('HKEYS', KEYS[1])
if old.err then  -- no hash
    redis.call('UNLINK', KEYS[1])
    old = {}
end
-- First what a full server refuses: then nothing has changed.
redis.call('HSET', KEYS[1], unpack(fields))
local kept = {}
for i = 1, #fields, 2 do kept[fields[i]] = true end
for _, field in ipairs(old) do
    if not kept[field] then redis.call('HDEL', KEYS[1], field) end
end
if ARGV[1] == '' then redis.call('PERSIST', KEYS[1])
else redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
""")
"""Store a record stamped with the epochs of its tags, replacing the one that is there."""

SET_ALL = Script("""
-- KEYS: values. ARGV: life in ms or '', contents...
for i, key in ipairs(KEYS) do
    if ARGV[1] == '' then redis.call('SET', key, ARGV[i + 1])
    else redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1]) end
end
""")
"""Store all or, where a full server refuses, none: the server decides when a script starts."""

INCREMENT = Script("""
-- KEYS: counters..., bumps. ARGV: amount and start ('' for 0) of each..., a new number or ''
local n = #KEYS - 1
for i = 1, n do
    local value = redis.pcall('GET', KEYS[i])
    if type(value) == 'table'
    or (value and (#value > 18 or not string.match(value, '^-?%d+$'))) then
        return redis.error_reply('NOTANINTEGER ' .. i)
    end
end
local sums = {}
for i = 1, n do
    if ARGV[2 * i] ~= '' then redis.call('SET', KEYS[i], ARGV[2 * i], 'NX') end
    redis.call('INCRBY', KEYS[i], ARGV[2 * i - 1])
    sums[i] = redis.call('GET', KEYS[i])  -- as text: a number of Lua's would be rounded
end
if ARGV[#ARGV] ~= '' then redis.call('SET', KEYS[#KEYS], ARGV[#ARGV]) end
return sums
""")
"""Add to all counters or to none; a new epoch starts at its own number."""

PUSH = Script("""
-- KEYS: labels, number of the last. ARGV: most that are kept, labels...
if redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('SET', KEYS[2], redis.call('LLEN', KEYS[1]))
end
redis.call('INCRBY', KEYS[2], #ARGV - 1)
for i = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('LTRIM', KEYS[1], -ARGV[1], -1)
""")
"""Append labels, number them, and drop the oldest."""

PULL = Script("""
-- KEYS: labels, number of the last. ARGV: the last number known
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local new = last - tonumber(ARGV[1])
if new <= 0 then return {last, {}} end
return {last, redis.call('LRANGE', KEYS[1], -new, -1)}
""")
"""Return the number of the last label, and the labels that are new."""

BURY = Script("""
-- KEYS: records... ARGV: for each a field and the value that it had when the record was found dead
local gone = 0
for i = 1, #KEYS do
    local now = redis.pcall('HGET', KEYS[i], ARGV[2 * i - 1])
    if type(now) == 'table' or now == ARGV[2 * i] or (not now and ARGV[2 * i] == '') then
        gone = gone + redis.call('UNLINK', KEYS[i])
    end
end
return gone
""")
"""Delete records that were found dead, unless they were stored anew meanwhile."""
