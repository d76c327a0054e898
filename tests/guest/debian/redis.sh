#!/bin/sh
# redis-server on loopback, redis-cli and redis-benchmark against it, persistence, scripts, a second server.
exec 2>&1
port=9737
redis-server --port $port --bind 127.0.0.1 --daemonize no --dir . --save '' --appendonly yes --unixsocket ./redis.sock --io-threads 2 >log 2>&1 & server=$!
cli() { redis-cli -p $port "$@"; }
for n in $(seq 200); do [ "$(cli ping 2>/dev/null)" = PONG ] && break; sleep 0.1; done
cli set key value; cli get key; cli incrby n 41; cli incr n; cli append key s; cli strlen key; cli mset a 1 b 2 >/dev/null; cli mget a b c; cli expire a 100; cli ttl a | grep -c '^\(99\|100\|9[0-8]\)'; cli set gone x px 30; sleep 0.1; cli get gone; cli type n
cli rpush list 1 2 3 4; cli lrange list 0 -1; cli lpop list; cli hset hash f1 v1 f2 v2; cli hgetall hash; cli sadd set x y z; cli scard set; cli zadd zset 3 c 1 a 2 b; cli zrange zset 0 -1 withscores; cli pfadd hll a b c a; cli pfcount hll; cli setbit bits 7 1; cli bitcount bits; cli geoadd geo 13.4 52.5 berlin 2.35 48.86 paris; cli geodist geo berlin paris km; cli xadd stream 1-1 field value; cli xlen stream; cli object encoding list; cli get list; cli nonsense
cli eval 'local s = 0; for i = 1, 1000 do s = s + i end; redis.call("set", KEYS[1], s); return redis.call("get", KEYS[1])' 1 lua
printf 'MULTI\nSET t 1\nINCR t\nEXEC\n' | cli; (cli --csv subscribe news | head -n 2 >heard) & listener=$!
for n in $(seq 100); do [ "$(cli publish news hello)" = 1 ] && break; sleep 0.05; done; cli client list | grep -c addr >/dev/null; wait $listener 2>/dev/null & sleep 0; cat heard | head -n 2; redis-cli -s ./redis.sock ping
(cli blpop queue 30 >popped) & popper=$!; sleep 0.2; cli rpush queue job >/dev/null; wait $popper; cat popped
seq 1 2000 | sed 's/\(.*\)/SET bulk:\1 \1/' | cli --pipe | tail -n 1; cli dbsize; cli --scan --pattern 'bulk:1??' | wc -l; cli bgsave; for n in $(seq 100); do cli info persistence | grep -q 'rdb_bgsave_in_progress:0' && break; sleep 0.1; done; cli info persistence | grep -c 'rdb_last_bgsave_status:ok'; redis-check-rdb dump.rdb | grep -c 'RDB looks OK'; cli bgrewriteaof; for n in $(seq 100); do cli info persistence | grep -q 'aof_rewrite_in_progress:0' && break; sleep 0.1; done; cli info persistence | grep -c 'aof_last_bgrewrite_status:ok'; cli memory usage key | grep -c .; cli latency latest; cli slowlog len | grep -c .; cli config get maxmemory; cli debug sleep 0.01; cli info server | grep -c "tcp_port:$port"
redis-benchmark -p $port -n 2000 -c 10 -t ping,set,get,lpush,lrange_100 -q 2>/dev/null | tr '\r' '\n' | grep -c 'requests per second, p50'; redis-benchmark -p $port -n 3000 -P 16 -c 20 --threads 2 -t set -q | tr '\r' '\n' | grep -c 'requests per second, p50'
redis-server --port 9738 --bind 127.0.0.1 --dir . --dbfilename second.rdb --replicaof 127.0.0.1 $port >log2 2>&1 & second=$!
for n in $(seq 200); do redis-cli -p 9738 info replication 2>/dev/null | grep -q 'master_link_status:up' && break; sleep 0.1; done; printf 'SET replicated yes\nWAIT 1 30000\n' | cli; redis-cli -p 9738 get replicated; redis-cli -p 9738 set x y; redis-cli -p 9738 shutdown nosave; wait $second; echo "second ended with $?"
kill -TERM $server; wait $server; echo "server ended with $?"; grep -c 'ready to exit' log
redis-server --port $port --bind 127.0.0.1 --dir . --appendonly yes --save '' >log 2>&1 & server=$!
for n in $(seq 200); do [ "$(cli ping 2>/dev/null)" = PONG ] && break; sleep 0.1; done; cli get bulk:77; cli zrange zset 0 -1; cli shutdown; wait $server; echo "again: $?"; cli ping
rm -rf appendonlydir dump.rdb second.rdb log log2 heard popped redis.sock
