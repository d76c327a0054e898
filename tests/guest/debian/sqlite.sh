#!/bin/sh
# sqlite3's shell: schemas, queries, imports, exports, dumps, concurrent writers.
exec 2>&1
sqlite3 db <<'END'
.mode column
create table people(id integer primary key, name text not null, born date, score real);
create table pets(owner references people(id), kind text, unique(owner, kind));
create index by_name on people(name collate nocase);
create view adults as select name from people where born < '2000-01-01';
insert into people(name, born, score) values ('Ann','1990-05-01',3.5),('Bob','2005-01-01',null),('Cyd','1985-12-31',9.25);
insert into pets values (1,'cat'),(1,'dog'),(3,'cat');
select p.name, group_concat(kind, '+') as kinds from people p left join pets on owner = p.id group by p.id;
select * from adults; .headers on
select kind, count(*) n, avg(score) from pets join people on id = owner group by kind having n > 1;
explain query plan select * from people where name = 'Ann';
.mode csv
select * from people;
.mode json
select * from people;
.mode markdown
select * from pets;
.schema people
begin; delete from pets; rollback; select count(*) from pets;
with recursive n(x) as (select 1 union all select x + 1 from n where x < 100000) select sum(x), max(x) from n;
insert into people(id, name) values (1, 'duplicate');
create trigger log after update on people begin insert into pets values (new.id, 'log ' || new.name); end;
update people set name = upper(name) where id = 2; select * from pets where owner = 2;
select printf('%05.2f %s', 3.14159, hex(zeroblob(3))), date('2024-02-29', '+1 year'), strftime('%j', '2024-12-31'), typeof(1.0), 7 / 2, 7 % 3, 1 << 10, abs(-5), round(2.567, 1), substr('hello', 2, 3), instr('hello', 'l'), replace('a-b', '-', '+'), coalesce(null, 4), iif(1, 'y', 'n'), like('%b%', 'abc'), 'abc' glob '*c', json_array(1, 'x'), unicode('é'), length('naïve');
select name, rank() over (order by score desc), sum(score) over (order by id rows between 1 preceding and current row) from people;
select value from generate_series(1, 3);
.dump
pragma integrity_check;
END
seq 1 20000 | sed 's/\(.*\)/\1,name \1/' >rows.csv; sqlite3 db 'create table rows(n integer, name)' '.mode csv' '.import rows.csv rows' 'select count(*), sum(n) from rows' "select name from rows where n = 777"
for n in 1 2 3 4; do (for i in 1 2 3 4 5; do sqlite3 -cmd '.timeout 60000' db "insert into rows values($n$i, 'writer $n')"; done) & done; wait; sqlite3 db "select name, count(*) from rows where name like 'writer%' group by name"
sqlite3 db .dump | sqlite3 copy && sqlite3 copy 'select count(*) from rows'; sqlite3 db '.backup saved' && cmp db saved && echo "backed up"; sqlite3 db 'vacuum into "small"' && sqlite3 small 'pragma page_count' | grep -c .; sqlite3 db 'pragma journal_mode=wal' 'insert into rows values(1,1)' 'pragma wal_checkpoint'; sqlite3 -readonly db 'delete from rows'; echo $?; sqlite3 db 'selec'; echo $?; sqlite3 nowhere/db 'select 1'; echo $?; echo junk >junk; sqlite3 junk .tables; sqlite3 :memory: 'select sqlite_version() > 3' '.shell echo from a shell'; sqlite3 -separator : -nullvalue NULL db 'select id, score from people'; sqlite3 db ".output out" "select 1" ".output stdout" ".read out"; cat out; sqlite3 :memory: "select readfile('out')" "select writefile('written', 'text')"; cat written; echo; sqlite3 -A -c -f ar rows.csv out && sqlite3 -A -t -f ar
rm -f db* copy saved small junk out written ar rows.csv
