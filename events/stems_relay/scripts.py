"""The Lua scripts that move jobs. Each runs as one step in Redis: a relay that dies leaves no job half moved.

Replies of the function and callbacks move as jobs do, in lines of their own (REPLIES, CALLBACKS): only how they enter
them differs (SETTLE).

Each may be sent twice (the client does so when an answer is lost) and then does nothing the second time, but for TAKE,
whose stray jobs the relay puts back. Three rules hold everywhere:
- Time is Redis' own: relays whose clocks differ must not take each other for dead.
- Whoever holds something stands in RELAYS, by the same step: else nobody would look for it.
- On the way of a song through the line, the first write of a script needs no memory. A full Redis (noeviction) refuses
  a script that begins with another, but lets one end that has begun to write; so the line still drains.
"""

from stems import moves, news
from stems_relay import part_scripts

# A relay that has missed so many is dead.
SILENT_HEARTBEATS = 3

_NOW = (
    news.LUA
    + moves.GIVE_UP
    + """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
)

# Payloads go to the relay's own list, about a megabyte at a time; those of a call whose answer was lost come first.
# KEYS: NOTIFICATIONS, processing list, RELAYS. ARGV: relay, count. Returns the payloads.
FETCH = (
    _NOW
    + """
local payloads, size = redis.call('LRANGE', KEYS[2], 0, ARGV[2] - 1), 0
if #payloads > 0 then return payloads end
while #payloads < tonumber(ARGV[2]) and size < 1000000 do
  local payload = redis.call('LPOP', KEYS[1])
  if not payload then break end
  redis.call('RPUSH', KEYS[2], payload)
  table.insert(payloads, payload)
  size = size + #payload
end
if #payloads > 0 then redis.call('ZADD', KEYS[3], 'NX', now, ARGV[1]) end
return payloads
"""
)

# A job enters the line, by the time of its upload, unless it is known: whether a notification or the sweep tells of it,
# and in which order they do, does not matter. It is known while it is in line (member of WAITING), being delivered
# (member of its relay's set) or finished for this upload or a newer one. What the hash says alone does not count:
# a job whose place in line was lost enters again. Whatever else stands at the key of a job is not ours.
# While its parts are on their way it is known, too; those of an older upload leave the line.
# KEYS: job hash, WAITING, DEAD, ATTEMPTS, RELAYS. ARGV: id, uploaded_ms, bucket, key, etag, record.
# Returns new, again (it runs now and will run again), duplicate, or how it ended: done, failed, cancelled or dropped.
CLAIM = (
    _NOW
    + moves.DROP_PARTS
    + """
local id, uploaded = ARGV[1], tonumber(ARGV[2])
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local state, known, relay = unpack(redis.call('HMGET', KEYS[1], 'state', 'uploaded_ms', 'relay'))
local place = math.min(uploaded, now)
local newer = uploaded > (tonumber(known) or -math.huge)
local fields = {'bucket', ARGV[3], 'key', ARGV[4], 'etag', ARGV[5], 'record', ARGV[6], 'uploaded_ms', ARGV[2]}
if redis.call('ZSCORE', KEYS[2], id) then
  if newer then redis.call('HSET', KEYS[1], unpack(fields)) end
  return 'duplicate'
end
if relay and redis.call('ZSCORE', KEYS[5], relay) and redis.call('SISMEMBER', 'stems:delivering:' .. relay, id) == 1
then
  if not newer then return 'duplicate' end
  redis.call('HSET', KEYS[1], 'again', '1', unpack(fields))
  return 'again'
end
if redis.call('EXISTS', 'stems:parts:' .. id) == 1 then
  if not newer then return 'duplicate' end
  drop_parts(id)
end
if not newer and (state == 'done' or state == 'failed' or state == 'cancelled' or state == 'dropped') then
  return state
end
if not newer and state == 'gone' then return 'duplicate' end
redis.call('HDEL', KEYS[1], 'error', 'progress', 'left_s', 'songhash', 'again', 'relay', 'delivery', 'tries', 'cancel',
  'reused', 'started_ms', 'rounds', 'plan', 'divided_ms', 'parts_end', 'parts_share')
redis.call('HSET', KEYS[1], 'state', 'waiting', 'since_ms', place, 'updated_ms', now, unpack(fields))
redis.call('PERSIST', KEYS[1])
redis.call('HDEL', KEYS[4], id)
redis.call('ZREM', KEYS[3], id)
redis.call('ZADD', KEYS[2], place, id)
tell('job', id)
return 'new'
"""
)

# The jobs that have been due for longest go to a relay, as many as it has room for. Attempts are counted here, so that
# a song which kills whoever touches it is counted too. `delivery` names one delivery: only its own answer is entered,
# not that of an earlier one by a relay that was paused. A job that is due later than anybody asks for was entered
# before the clock was set back: it is due now. An upload that came before this delivery is served by it: `again` ends.
# A part of a song goes when no song is due, or TURN songs went while it waited.
# KEYS: WAITING, ATTEMPTS, delivering set, RELAYS; for songs PARTS, PARTS_LATER, PASSED. ARGV: relay, what the names of
# these deliveries begin with, the longest wait that anybody asks for, ms, how many jobs to take, and TURN.
# Returns how many songs and parts all relays deliver now, -1 while another one is due, and {id, delivery, attempts,
# tries, record} of each that was taken; where none is due, ms until one is, or nothing.
TAKE = (
    _NOW
    + part_scripts.ENDED
    + """
for _, bounds in ipairs(KEYS[6] and {{'-inf', now}, {now + ARGV[3], '+inf'}} or {}) do
  for _, part in ipairs(redis.call('ZRANGEBYSCORE', KEYS[6], bounds[1], bounds[2], 'LIMIT', 0, ARGV[4])) do
    redis.call('ZREM', KEYS[6], part)
    redis.call('ZADD', KEYS[5], redis.call('HGET', 'stems:job:' .. part, 'since_ms') or now, part)
  end
end
local taken = {}
while #taken < tonumber(ARGV[4]) do
  local line = KEYS[1]
  local id, due = unpack(redis.call('ZRANGE', line, 0, 0, 'WITHSCORES'))
  local part = KEYS[5] and redis.call('ZRANGE', KEYS[5], 0, 0)[1]
  if part and (not id or tonumber(due) > now or tonumber(redis.call('GET', KEYS[7]) or 0) >= tonumber(ARGV[5])) then
    line, id, due = KEYS[5], part, now
  end
  if not id then break end
  local wait = due - now
  if wait > 0 and wait <= tonumber(ARGV[3]) then
    if #taken == 0 then return wait end
    break
  end
  redis.call('ZREM', line, id)
  if id == part then redis.call('DEL', KEYS[7])
  elseif part then redis.call('SET', KEYS[7], (redis.call('GET', KEYS[7]) or 0) + 1) end
  local key = 'stems:job:' .. id
  if redis.call('TYPE', key).ok == 'hash' and redis.call('HEXISTS', key, 'record') == 1 then
    redis.call('ZADD', KEYS[4], 'NX', now, ARGV[1])
    redis.call('SADD', KEYS[3], id)
    redis.call('HDEL', key, 'again')
    local delivery = ARGV[2] .. string.format('%02x', #taken)
    redis.call('HSET', key, 'relay', ARGV[1], 'delivery', delivery)
    local tries, attempts = redis.call('HINCRBY', key, 'tries', 1), redis.call('HINCRBY', KEYS[2], id, 1)
    table.insert(taken, {id, delivery, attempts, tries, redis.call('HGET', key, 'record')})
  else
    redis.call('HDEL', KEYS[2], id)
    if id == part then part_ended(id, id:match('^p(%x+)'), now) end
  end
end
if #taken == 0 then return false end
local busy = -1
if KEYS[5] and redis.call('ZCARD', KEYS[5]) + redis.call('ZCOUNT', KEYS[1], '-inf', now) == 0 then
  busy = 0
  for _, relay in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    for _, id in ipairs(redis.call('SMEMBERS', 'stems:delivering:' .. relay)) do
      if not id:find('^[rw]') then busy = busy + 1 end
    end
  end
end
return {busy, unpack(taken)}
"""
)

# The answer to a delivery is entered, unless the job was taken over meanwhile. What is to be said of it (a reply,
# callbacks) enters its line by the same step: nobody dies between the end of a song and the word of it. A song that
# failed and was uploaded again meanwhile, or cancelled, has not ended so. A job that was cancelled meanwhile does not
# wait again, unless it was uploaded again since. Of dead letters that strangers can make, the oldest go. What a
# separation took, but in parts, is kept as the pace, of which estimates are made.
# KEYS: job hash, delivering set, WAITING, ATTEMPTS, DEAD, PACE; for each message its hash and its line. ARGV: id,
# delivery (empty: whichever it is), state (done, gone, failed or waiting), delay_ms (empty: to its old place in line),
# refund, ttl_s, error, how many dead letters are kept (0: all); for each message its id, key and record.
# Returns the state entered, by this call or by one whose answer was lost, or 'stale'.
SETTLE = (
    _NOW
    + """
local id, delivery, state, delay, error = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[7]
local before, current, since = unpack(redis.call('HMGET', KEYS[1], 'state', 'delivery', 'since_ms'))
if delivery ~= '' and delivery ~= current then return 'stale' end
if redis.call('SREM', KEYS[2], id) == 0 then return before or 'stale' end
if redis.call('HEXISTS', KEYS[1], 'record') == 0 then return 'stale' end
local again, cancelled = redis.call('HDEL', KEYS[1], 'again') == 1, redis.call('HDEL', KEYS[1], 'cancel') == 1
local messages = (again or cancelled) and state == 'failed' and 0 or (#ARGV - 8) / 3
for i = 0, messages - 1 do
  local hash, line, id, key, record = KEYS[2 * i + 7], KEYS[2 * i + 8], unpack(ARGV, 3 * i + 9, 3 * i + 11)
  redis.call('HSET', hash, 'state', 'waiting', 'since_ms', now, 'updated_ms', now, 'key', key, 'record', record)
  redis.call('ZADD', line, now, id)
end
local due = delay ~= '' and now + delay or tonumber(since) or now
if again then
  redis.call('HDEL', KEYS[1], 'tries')
  redis.call('HDEL', KEYS[4], id)
  redis.call('HSET', KEYS[1], 'since_ms', now)
  state, due, error = 'waiting', now, ''
elseif cancelled and state ~= 'done' then
  state, error = 'cancelled', ''
elseif ARGV[5] == '1' and redis.call('HINCRBY', KEYS[4], id, -1) <= 0 then
  redis.call('HDEL', KEYS[4], id)
end
redis.call('HDEL', KEYS[1], 'relay')
redis.call('HSET', KEYS[1], 'state', state, 'updated_ms', now, 'error', error)
redis.call('PERSIST', KEYS[1])
if not id:find('^[rw]') then tell('job', id) end
if state == 'waiting' then
  redis.call('ZADD', KEYS[3], due, id)
  return state
end
local reused, started, rounds = unpack(redis.call('HMGET', KEYS[1], 'reused', 'started_ms', 'rounds'))
if state == 'done' and reused == '0' and tonumber(started) and not rounds then
  local took, before = math.max(now - started, 0) / 1000, tonumber(redis.pcall('GET', KEYS[6]))
  redis.call('SET', KEYS[6], before and 0.7 * before + 0.3 * took or took)
end
redis.call('HSET', KEYS[1], 'attempts', redis.call('HGET', KEYS[4], id) or 0)
redis.call('HDEL', KEYS[4], id)
if state == 'failed' then
  redis.call('ZADD', KEYS[5], now, id)
  local excess = ARGV[8] ~= '0' and redis.call('ZCARD', KEYS[5]) - ARGV[8] or 0
  for _, old in ipairs(excess > 0 and redis.call('ZRANGE', KEYS[5], 0, excess - 1) or {}) do
    redis.call('ZREM', KEYS[5], old)
    redis.call('DEL', 'stems:job:' .. old)
  end
else
  redis.call('HDEL', KEYS[1], 'record')
  redis.call('EXPIRE', KEYS[1], ARGV[6])
  give_up(id)
end
return state
"""
)

# A dead letter that Redis has lost comes back, as its upload's tags tell of it.
# KEYS: job hash, DEAD. ARGV: id, uploaded_ms, bucket, key, etag, record, error.
EXHUME = (
    news.LUA
    + """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'state', 'failed', 'error', ARGV[7], 'uploaded_ms', ARGV[2], 'updated_ms', ARGV[2],
  'bucket', ARGV[3], 'key', ARGV[4], 'etag', ARGV[5], 'record', ARGV[6])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
tell('job', ARGV[1])
return 1
"""
)

# What cannot be read is kept as a dead letter.
# KEYS: job hash, DEAD. ARGV: id, error, the payload as text.
BURY = (
    _NOW
    + """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'state', 'failed', 'payload', ARGV[3], 'error', ARGV[2], 'updated_ms', now)
redis.call('ZADD', KEYS[2], now, ARGV[1])
tell('job', ARGV[1])
"""
)

# A relay says that it lives, or (alive = 0) that it ends; what relays hold that ended or fell silent goes back in line,
# to its old place. Only an orderly end gives the attempt back. A heartbeat from the future was sent before the clock
# was set back: it counts from now. What was cancelled meanwhile ends here.
# KEYS: RELAYS, NOTIFICATIONS, WAITING, ATTEMPTS, REPLIES, CALLBACKS, PARTS. ARGV: relay, silent_ms, alive, ttl_s of
# what was cancelled.
# Returns the number taken back.
BEAT = (
    _NOW
    + part_scripts.ENDED
    + """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[3] == '1' and now or 0, ARGV[1])
for _, relay in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now + ARGV[2], '+inf')) do
  redis.call('ZADD', KEYS[1], now, relay)
end
local lines = {r = KEYS[5], w = KEYS[6], p = KEYS[7]}
local count, silent = 0, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2], 'WITHSCORES')
for i = 1, #silent, 2 do
  local relay, ended = silent[i], silent[i + 1] == '0'
  local processing, delivering = 'stems:processing:' .. relay, 'stems:delivering:' .. relay
  while redis.call('LMOVE', processing, KEYS[2], 'RIGHT', 'LEFT') do count = count + 1 end
  for _, id in ipairs(redis.call('SMEMBERS', delivering)) do
    local key = 'stems:job:' .. id
    if ended and redis.call('HINCRBY', KEYS[4], id, -1) <= 0 then redis.call('HDEL', KEYS[4], id) end
    local cancel, again, record, owner = unpack(redis.call('HMGET', key, 'cancel', 'again', 'record', 'relay'))
    if owner and owner ~= relay then  -- entered anew meanwhile: another relay delivers it
    elseif cancel and not again then
      redis.call('HDEL', key, 'relay', 'delivery', 'cancel', 'record')
      redis.call('HDEL', KEYS[4], id)
      redis.call('HSET', key, 'state', 'cancelled', 'updated_ms', now)
      redis.call('EXPIRE', key, ARGV[4])
      give_up(id)
    elseif record then
      local line = lines[id:sub(1, 1)] or KEYS[3]
      redis.call('ZADD', line, tonumber(redis.call('HGET', key, 'since_ms')) or now, id)
      redis.call('HDEL', key, 'relay', 'delivery', 'cancel')
      redis.call('HSET', key, 'state', 'waiting', 'updated_ms', now)
      if line == KEYS[3] then tell('job', id) end
      count = count + 1
    elseif id:sub(1, 1) == 'p' then  -- its song finds in the bucket that it is not made
      redis.call('HDEL', KEYS[4], id)
      part_ended(id, id:match('^p(%x+)'), now)
    end
  end
  redis.call('DEL', delivering)
  redis.call('ZREM', KEYS[1], relay)
end
return count
"""
)
