"""The life of a stream and its group, as a program with redis-py would lead it. Run by clients.test.ts."""
import sys
import threading
import redis

port = int(sys.argv[1])
r = redis.Redis(port=port, decode_responses=True)
key = "redis-py"

assert r.ping()
assert r.xgroup_create(key, "workers", id="$", mkstream=True)
try:
    r.xgroup_create(key, "workers")
    raise AssertionError("a second group of that name was created")
except redis.ResponseError as error:
    assert str(error) == "BUSYGROUP Consumer Group name already exists", error

got = []
reader = threading.Thread(
    target=lambda: got.extend(
        redis.Redis(port=port, decode_responses=True).xreadgroup("workers", "ann", {key: ">"}, block=10000)
    )
)
reader.start()
while r.info("clients")["blocked_clients"] == 0:
    pass
first = r.xadd(key, {"order": "0", "note": "ünï"})
reader.join(10)
assert got == [[key, [(first, {"order": "0", "note": "ünï"})]]], got

with r.pipeline(transaction=False) as pipe:
    for i in range(1, 400):
        pipe.xadd(key, {"order": i})
    ids = pipe.execute()
assert len(set(ids)) == 399 and ids == sorted(ids, key=lambda id: tuple(map(int, id.split("-"))))

[[_, batch]] = r.xreadgroup("workers", "bob", {key: ">"}, count=100)
assert [id for id, _ in batch] == ids[:100]
assert r.xack(key, "workers", *ids[:70]) == 70
summary = r.xpending(key, "workers")
assert summary["pending"] == 31 and summary["min"] == first, summary
detail = r.xpending_range(key, "workers", "-", "+", 10, "bob")
assert detail[0]["message_id"] == ids[70] and detail[0]["times_delivered"] == 1, detail[0]
claimed = r.xclaim(key, "workers", "ann", 0, ids[70:80])
assert [id for id, _ in claimed] == ids[70:80]
rest = r.xautoclaim(key, "workers", "ann", 0, start_id="-", count=100)
assert len(rest[1]) == 31, rest
[group] = r.xinfo_groups(key)
assert group["pending"] == 31 and group["lag"] == 299, group
assert r.xinfo_stream(key)["length"] == 400
assert {c["name"]: c["pending"] for c in r.xinfo_consumers(key, "workers")} == {"ann": 31, "bob": 0}
assert r.xtrim(key, maxlen=100, approximate=False) == 300
assert r.xdel(key, ids[-1]) == 1
assert len(r.xrange(key)) == 99 and r.xrevrange(key, count=1)[0][0] == ids[-2]

with r.pipeline() as pipe:
    pipe.watch("py:n")
    pipe.multi()
    pipe.set("py:n", 1)
    r.set("py:n", 5)
    try:
        pipe.execute()
        raise AssertionError("a watched key changed and the transaction was executed")
    except redis.WatchError:
        pass
assert r.incrby("py:n", 2) == 7

subscriber = r.pubsub()
subscriber.subscribe("news")
assert subscriber.get_message(timeout=5)["type"] == "subscribe"
assert r.publish("news", "hello") == 1
assert subscriber.get_message(timeout=5)["data"] == "hello"
print("scenario passed")
