#!/usr/bin/python3
"""sqlite3 from Python: types, transactions, functions, threads and processes on one file."""

import os
import sqlite3
import threading

db = sqlite3.connect("data.db", timeout=60)
db.executescript(
    "create table t(id integer primary key, name text unique, weight real, data blob);"
    "pragma user_version = 5;"
)
with db:
    db.executemany(
        "insert into t values(?, ?, ?, ?)",
        ((n, f"name {n}", n / 7, bytes([n % 256]) * 10) for n in range(5000)),
    )
print(db.execute("select count(*), sum(weight), max(name), typeof(data) from t").fetchone())
print(db.execute("select name from t where weight between 100 and 100.5 order by name desc").fetchall())
try:
    with db:
        db.execute("insert into t(name) values('rolled back')")
        db.execute("insert into t(name) values('name 1')")
except sqlite3.IntegrityError as error:
    print(error, db.execute("select count(*) from t where name = 'rolled back'").fetchone())
db.create_function("cube", 1, lambda x: x**3)
db.create_aggregate(
    "longest",
    1,
    type(
        "Longest",
        (),
        {
            "__init__": lambda s: setattr(s, "v", ""),
            "step": lambda s, x: setattr(s, "v", max(s.v, x, key=len)),
            "finalize": lambda s: s.v,
        },
    ),
)
db.create_collation("backwards", lambda a, b: (a[::-1] > b[::-1]) - (a[::-1] < b[::-1]))
print(
    db.execute(
        "select cube(7), longest(name), (select name from t order by name collate backwards limit 1) from t"
    ).fetchone()
)
print(
    db.execute(
        "with recursive f(n, a, b) as (select 1, 0, 1 union all select n + 1, b, a + b from f where n < 60)"
        "select max(a) from f"
    ).fetchone()
)
print(
    db.execute(
        "select json_extract('{\"a\": [1, {\"b\": 2}]}', '$.a[1].b'), row_number() over (order by id desc)"
        "from t limit 1"
    ).fetchone()
)
db.execute("create virtual table notes using fts5(body)")
db.executemany(
    "insert into notes values(?)", [("the quick brown fox",), ("lazy dogs sleep",), ("quick dogs",)]
)
print(db.execute("select body from notes where notes match 'quick' order by rank, body").fetchall())
db.commit()
print(db.execute("pragma journal_mode = wal").fetchone())


def insert(start):
    mine = sqlite3.connect("data.db", timeout=60)
    for n in range(start, start + 20):
        with mine:
            mine.execute("insert into t(name) values(?)", (f"by {n}",))
    mine.close()


threads = [threading.Thread(target=insert, args=(10000 + n * 20,)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
pids = []
for n in range(3):
    pids.append(os.fork())
    if pids[-1] == 0:
        insert(20000 + n * 20)
        os._exit(0)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
print(db.execute("select count(*) from t where name like 'by %'").fetchone())
copy = sqlite3.connect(":memory:")
db.backup(copy)
print(
    copy.execute("select count(*) from t").fetchone(),
    len(list(copy.iterdump())) > 5000,
    copy.execute("pragma integrity_check").fetchone(),
)
with db.blobopen("t", "data", 5) as blob:
    blob[0:2] = b"XY"
print(db.execute("select data from t where id = 5").fetchone())
lock = sqlite3.connect("data.db", timeout=0.05, isolation_level=None)
lock.execute("begin immediate")
try:
    sqlite3.connect("data.db", timeout=0.05).execute("insert into t(name) values('locked out')")
except sqlite3.OperationalError as error:
    print(error)
lock.close()
db.execute("vacuum")
print(db.execute("pragma user_version").fetchone(), db.execute("pragma wal_checkpoint(truncate)").fetchone())
db.close()
with open("data.db", "rb") as file:
    print(file.read(15))
for name in os.listdir("."):
    if name.startswith("data.db"):
        os.unlink(name)
