#!/bin/sh
# The programs of coreutils, each with what it is for.
exec 2>&1
section() { echo "--- $*"; }
numbers() { seq -f '%03g' 1 "$1"; }

section making text
seq 5; seq -s, 1 2 9; seq -w 8 11; seq 1 0.25 2; seq 3 -1 1
printf '%s %05d %x %e %c\n' word 42 255 12345.678 x
printf '%b' 'a\tb\n'; printf '%q\n' "it's here"
echo -n no newline; echo; echo -e 'tab\there'
yes no | head -n 3
numfmt --to=iec 1048576 123456789; numfmt --from=si 2K; numfmt --grouping 1234567
factor 97 360360 1000000007 18446744073709551557
basename /usr/lib/libc.so.6 .6; dirname /usr/lib/libc.so.6 plain /
expr 6 \* 7; expr length word; expr substr abcdef 2 3; expr abc : 'a\(.\)c'; expr 3 \> 2
test 3 -gt 2 -a -n x && [ ! -e nothing ] && echo tested
true; false || echo "false is $?"

section files
mkdir -p a/b/c d && mkdir -m 700 private && stat -c '%n %a %F %s' private a/b/c | sed 's/ [0-9]*$//'
numbers 10 >a/ten; cp a/ten a/b/; cp -r a copy; cp -p a/ten kept; cp -s a/ten symbolic; cp -l kept hard
ln -s a/ten link; ln kept second; ln -sr a/b/ten d/relative; readlink link d/relative; readlink -f d/relative | grep -o 'a/b/ten$'
realpath --relative-to=. d/relative link; stat -c '%n %h %F' kept second link; stat -L -c '%F %s' link
mv kept moved; mv -t d moved second; ls d; mv -n d/moved a/ten; ls -R a copy
install -m 640 -D a/ten deep/er/ten; stat -c '%a %s' deep/er/ten
chmod u=rwx,g=rx,o= a/ten; stat -c %A a/ten; chmod -R go-rwx copy; stat -c '%a %n' copy copy/b/ten; chmod --reference=a/ten d/moved; stat -c %a d/moved
touch -d '2001-02-03 04:05:06' old; stat -c '%y %n' old; touch -r old new; [ ! new -nt old ] && [ ! new -ot old ] && echo "same times"
touch -d @86400.123456789 fraction; stat -c '%.9Y' fraction; date -r old +%F
truncate -s 5000 sparse; stat -c '%s %b' sparse; truncate -s -1000 sparse; wc -c <sparse; truncate -s %512 sparse; wc -c <sparse; fallocate -l 8192 full && stat -c '%s %b' full
ls -1 | head -n 20; ls -F; ls -l --time-style=+%Y old | sed 's/  */ /g'; ls -Q -d a; ls -S a copy/b; ls -1 --sort=version a; ls nothing; echo $?
mktemp -p . -t XXXXXX.tmp | sed 's/\/[A-Za-z0-9]*\./\/random./'; rm -f ./*.tmp; mktemp -d -p . >/dev/null && rmdir tmp.*
mkfifo pipe; (echo through a pipe >pipe &); cat pipe; stat -c %F pipe; rm pipe
du -a --apparent-size -b a/b | sort -k2; du -s --inodes a; rmdir d 2>&1 | sed 's/.*: //'; rm -r d deep copy private; rm nothing; rm -d a/b/c; unlink new; link old linked; stat -c %h linked
chown "$(id -u):$(id -g)" old && chgrp "$(id -g)" old && echo owned; stat -c '%u %g' old | grep -c .
sync old && sync -f . && echo synced; df -P . | awk_fields=1 wc -l
dd if=/dev/zero of=dd.out bs=1K count=10 seek=5 status=none; stat -c %s dd.out; dd if=a/ten bs=4 skip=2 count=3 2>/dev/null; dd if=a/ten conv=ucase,swab status=none | head -n 2
printf abc | dd of=dd.out bs=1 seek=2 conv=notrunc status=none; od -A d -t x1 -N 8 dd.out; dd if=/dev/zero bs=64K count=4 iflag=fullblock 2>&1 >/dev/null | head -n 2; cat a/ten | dd bs=7 cbs=8 conv=block status=none | head -c 16; echo
shred -n 1 -z -u old; [ -e old ] || echo shredded

section contents
cat -n a/ten | tail -n 2; cat -A <<'END'
	tab and ünicode
END
tac a/ten | head -n 2; rev_=1 nl -ba -w3 -s: a/ten | head -n 2; head -c 7 a/ten; tail -c 8 a/ten; tail -n +9 a/ten; head -n -8 a/ten
wc a/ten; wc -L -m a/ten; od -c a/ten | head -n 2; od -t d2 -t f4 -N 8 a/ten; od -A x -t x8 -v -w16 -N 32 a/ten
split -n l/3 -d a/ten part.; wc -l part.*; rm part.*; split -b 15 --filter='wc -c' a/ten; csplit -s a/ten 4 8; wc -l xx*; rm xx*; split -l 4 a/ten s_; ls s_*; cat s_* | cmp - a/ten && echo "put together"; rm s_*
(timeout 5 tail -f a/ten 2>/dev/null | head -n 10 | tail -n 1)
(sleep 0.2; echo appended >>growing) & : >growing; timeout 20 tail -n 0 -f growing | head -n 1; rm growing; wait

section sorting and columns
numbers 30 | shuf --random-source=/usr/bin/sort | sort | head -n 3; shuf -i 1-5 | sort -n | tr '\n' ' '; echo
printf '%s\n' b10 b9 a1 B2 | sort; printf '%s\n' b10 b9 a1 | sort -V; printf '%s\n' 10 9 1e3 0x1 | sort -g; printf '%s\n' 3K 2M 1G | sort -hr; printf '%s\n' jan DEC mar | sort -M; printf 'x 2\ny 1\nx 1\n' | sort -k1,1 -k2n; printf 'a\nb\na\n' | sort -u; printf 'b\na\n' | sort -c; echo $?
numbers 5000 | sort -R | sort --parallel=2 -S 64K -T . | cmp - a/none 2>/dev/null || numbers 5000 | sort -r -S 32K -T . | sha256sum
printf 'a\na\nb\nc\nc\n' | uniq -c; printf 'a\na\nb\n' | uniq -d; printf 'a\nA\nb\n' | uniq -iu; printf '1 x\n2 x\n3 y\n' | uniq -f1
printf 'a\nb\nc\n' >one; printf 'b\nc\nd\n' >two; comm one two; comm -12 one two; comm -3 --total one two
printf '1 a\n2 b\n3 c\n' >one; printf '1 x\n3 y\n4 z\n' >two; join one two; join -a1 -a2 -e- -o 0,1.2,2.2 one two; join -v1 one two; paste one two; paste -s -d, one; paste - - <one
cut -d' ' -f2 one; echo abcdef | cut -c2-4,6; echo 'a:b:c' | cut -d: --complement -f2 --output-delimiter=+; printf 'a\tb\n' | cut -f2 -s
tr a-z n-za-m <one; echo aabbcc | tr -s a-c; echo 'a1b2' | tr -d '[:digit:]'; echo hello | tr -c 'a-y\n' '*'; expand -t4 <<'END'
a	b
END
printf '        x\n' | unexpand -a | od -c | head -n 1; fold -w 10 <<'END'
the quick brown fox jumps
END
fold -s -w 12 <<'END'
the quick brown fox jumps
END
fmt -w 20 <<'END'
one two three four five six seven eight nine ten
END
numbers 6 | pr -3 -t -w 30; numbers 4 | pr -h Title -l 14 | tail -n +4 | head -n 4; printf 'a b\nb c\nc d\na c\n' | tsort; ptx -w 30 one
numbers 3 | tee copy1 copy2 | cat; cmp copy1 copy2 && echo equal

section sums
for sum in cksum md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum sum; do printf '%s ' $sum; head -c 100000 /dev/zero | $sum; done
cksum -a sm3 one; cksum -a crc one; sha256sum one two >sums; sha256sum -c sums; echo changed >>one; sha256sum -c sums --quiet; echo $?
base64 -w 20 two; base64 two | base64 -d | cmp - two && echo "base64 back"; basenc --base32hex two; base32 two | base32 -d | head -n 1; basenc --base16 -w0 two; echo; basenc --z85 <<'END' | head -n 1
abc
END

section the system
date -u -d @0 +'%Y-%m-%dT%H:%M:%S %j %a %b'; date -d '2024-02-29 +1 year' +%F; TZ=EST5EDT,M3.2.0,M11.1.0 date -d @1700000000 +%H; date -d 'next monday' +%a; date --iso-8601=ns -d @1.5
uname -s; arch >/dev/null && uname -n >/dev/null && echo named; [ "$(nproc)" -ge 1 ] && echo processors; hostid | grep -c .; id -u | grep -c .; id -un | grep -c .; groups | grep -c .; whoami | grep -c .; logname 2>/dev/null | head -c 0; users | head -c 0; who | head -c 0; pinky 2>/dev/null | head -c 0; tty; tty -s; echo $?
env -i A=1 B=2 env | sort; env -u HOME sh -c 'echo ${HOME-none}'; env -C / pwd; env -S 'sh -c "echo split"'; printenv TZ; printenv NOTHING; echo $?
pwd | grep -o '[^/]*$' >/dev/null && echo here; (cd a && pwd -P | grep -o '/a$'); uptime | grep -c load; stty size 2>/dev/null; echo $?; dircolors -b | head -c 9; echo
sleep 0.01; timeout 0.2 sleep 5; echo $?; timeout -s KILL 0.2 sleep 5; echo $?; timeout 5 sh -c 'exit 3'; echo $?; timeout --preserve-status -s INT 0.2 sh -c 'trap "exit 9" INT; while :; do sleep 0.05; done'; echo $?
[ $(($(nice -n 5 nice) - $(nice))) = 5 ] && [ $(($(nice -n 5 sh -c 'nice -n 3 nice') - $(nice))) = 8 ] && echo nicer; nohup sh -c 'echo not hung up' 2>/dev/null; kill -l 15; sh -c 'kill -9 $$'; echo $?; kill -0 $$ && echo alive; stdbuf -oL echo unbuffered; stdbuf -o0 cut -c1-2 <two | head -n 1
chroot / /bin/echo inside 2>&1 | sed 's/.*: //'; runcon 2>/dev/null; chcon nothing 2>/dev/null; mknod pipe p && stat -c '%F %t %T' pipe; rm pipe; stat -L -c '%F %t %T' /dev/null; echo $(($(date +%s%N) > 0)); pathchk ok/name; pathchk -p 'bad:name*'; echo $?; getconf PAGESIZE; getconf LONG_BIT
b2sum --tag two; vdir -d a | cut -c1-10; dir -d a; [ / -ef /. ] && echo "same root"; cat /dev/null nothing_here; echo $?; echo full >/dev/full; echo $?; head -c 5 /dev/urandom | wc -c; seq 1 100000 | tail -n 1; numbers 3 | cat - one -; od -N0 one
rm -rf a
