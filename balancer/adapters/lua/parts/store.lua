-- Stores a result document and tells who waits for it, as Celery's Redis backend does.
--   store(result, document, ttl_s)
-- result: whole name of the key.  ttl_s: "0" for ever
local function store(result, document, ttl_s)
  if ttl_s == '0' then
    redis.call('SET', result, document)
  else
    redis.call('SETEX', result, ttl_s, document)
  end
  redis.call('PUBLISH', result, document)
end
