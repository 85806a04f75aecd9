"""The Lua scripts that move jobs. Each runs as one step in Redis: a relay that dies leaves no job half moved."""

# A job enters the line, unless it is known. It is known while it is in line (member of WAITING), being delivered
# (member of its relay's set) or finished for this upload or a newer one. What the hash says alone does not count:
# a job whose place in line was lost enters again.
# KEYS: job hash, WAITING, DEAD. ARGV: id, uploaded_ms, now, bucket, key, etag, record.
CLAIM = """
local id, uploaded, now = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local state, known, relay = unpack(redis.call('HMGET', KEYS[1], 'state', 'uploaded_ms', 'relay'))
local newer = (not known) or uploaded > tonumber(known)
local fields = {'bucket', ARGV[4], 'key', ARGV[5], 'etag', ARGV[6], 'record', ARGV[7], 'uploaded_ms', ARGV[2]}
if redis.call('ZSCORE', KEYS[2], id) then
  if newer then redis.call('HSET', KEYS[1], unpack(fields)) end
  return 'duplicate'
end
if relay and redis.call('SISMEMBER', 'stems:delivering:' .. relay, id) == 1 then
  if not newer then return 'duplicate' end
  redis.call('HSET', KEYS[1], 'again', '1', unpack(fields))
  return 'again'
end
if (state == 'done' or state == 'failed' or state == 'gone' or state == 'dropped') and not newer then
  return 'duplicate'
end
redis.call('HDEL', KEYS[1], 'error', 'progress', 'songhash', 'again', 'relay', 'tries')
redis.call('HSET', KEYS[1], 'state', 'waiting', 'since_ms', now, 'updated_ms', now, unpack(fields))
redis.call('PERSIST', KEYS[1])
redis.call('HDEL', 'stems:attempts', id)
redis.call('ZREM', KEYS[3], id)
redis.call('ZADD', KEYS[2], now, id)
return 'new'
"""

# The job that has been due for longest goes to a relay. Attempts are counted here, so that a song which kills
# whoever touches it is counted too.
# KEYS: WAITING, ATTEMPTS, delivering set. ARGV: now, relay. Returns {id, attempts, field, value, ...} or {next due}.
TAKE = """
while true do
  local due = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if #due == 0 then return {} end
  local id, score = due[1], due[2]
  if tonumber(score) > tonumber(ARGV[1]) then return {score} end
  redis.call('ZREM', KEYS[1], id)
  local key = 'stems:job:' .. id
  if redis.call('HEXISTS', key, 'record') == 1 then
    redis.call('SADD', KEYS[3], id)
    redis.call('HSET', key, 'relay', ARGV[2])
    redis.call('HINCRBY', key, 'tries', 1)
    local attempts = redis.call('HINCRBY', KEYS[2], id, 1)
    local answer = redis.call('HGETALL', key)
    table.insert(answer, 1, attempts)
    table.insert(answer, 1, id)
    return answer
  end
end
"""

# The answer to a delivery is entered, unless another relay has taken the job over meanwhile.
# KEYS: job hash, delivering set, WAITING, ATTEMPTS, DEAD.
# ARGV: id, now, state (done, gone, failed or waiting), due, refund, ttl_s, error.
# Returns the state entered, or 'stale'.
SETTLE = """
local id, now, state, due, error = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[7]
if redis.call('SREM', KEYS[2], id) == 0 then return 'stale' end
redis.call('HDEL', KEYS[1], 'relay')
if redis.call('HDEL', KEYS[1], 'again') == 1 then
  redis.call('HDEL', KEYS[4], id)
  state, due, error = 'waiting', now, ''
elseif ARGV[5] == '1' then
  redis.call('HINCRBY', KEYS[4], id, -1)
end
redis.call('HSET', KEYS[1], 'state', state, 'updated_ms', now, 'error', error)
if state == 'waiting' then
  redis.call('ZADD', KEYS[3], due, id)
else
  redis.call('HSET', KEYS[1], 'attempts', redis.call('HGET', KEYS[4], id) or 0)
  redis.call('HDEL', KEYS[4], id)
  if state == 'failed' then
    redis.call('ZADD', KEYS[5], now, id)
  else
    redis.call('EXPIRE', KEYS[1], ARGV[6])
  end
end
return state
"""

# What cannot be read is kept as a dead letter with its bytes.
# KEYS: processing list, job hash, DEAD. ARGV: payload, id, now, error.
BURY = """
redis.call('LREM', KEYS[1], 1, ARGV[1])
redis.call('HSET', KEYS[2], 'state', 'failed', 'payload', ARGV[1], 'error', ARGV[4], 'updated_ms', ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
"""

# What dead relays held goes back in line, at its front.
# KEYS: RELAYS, NOTIFICATIONS, WAITING. ARGV: the last heartbeat that is too old, now. Returns the number taken back.
RECOVER = """
local count = 0
for _, relay in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])) do
  local processing, delivering = 'stems:processing:' .. relay, 'stems:delivering:' .. relay
  while redis.call('LMOVE', processing, KEYS[2], 'RIGHT', 'LEFT') do count = count + 1 end
  for _, id in ipairs(redis.call('SMEMBERS', delivering)) do
    redis.call('ZADD', KEYS[3], redis.call('HGET', 'stems:job:' .. id, 'since_ms') or ARGV[2], id)
    redis.call('HSET', 'stems:job:' .. id, 'state', 'waiting')
    count = count + 1
  end
  redis.call('DEL', delivering)
  redis.call('ZREM', KEYS[1], relay)
end
return count
"""
