# What the shell scripts of container images do, in one session; the output is the same everywhere.
set -u
fail=0
t() { printf '%s: ' "$1"; shift; "$@"; echo " [$?]"; }
here=$(mktemp -d) || exit 1
cd "$here" || exit 1
# expansions and arithmetic
x=hello; t len echo ${#x}; t sub echo ${x%lo}-${x#he}; t def echo ${y:-none}; t arith echo $((3**2 + 0x10 % 7)) 
i=0; while [ $i -lt 200 ]; do i=$((i+1)); done; t loop echo $i
# functions, recursion
fact() { if [ $1 -le 1 ]; then echo 1; else echo $(( $1 * $(fact $(($1-1))) )); fi; }
t fact fact 8
# here-documents and strings
cat > doc <<X
line 1 $x
line 2 \$x
$(echo nested)
X
t wc wc doc
cat > raw <<'X'
$x `no`
X
t raw cat raw
# pipes and subshells
t pipe sh -c 'seq 1 1000 | grep 7 | sort -rn | head -3 | tr "\n" ,'
(cd /; pwd); t back test "$PWD" != /
{ echo out; echo err >&2; } 2>err >out; t redir cat out err
exec 3>three; echo to3 >&3; exec 3>&-; t fd3 cat three
exec 4<doc; read l <&4; t read echo "$l"; exec 4<&-
# exit statuses and traps
false; t st echo $?
sh -c 'exit 42'; t st echo $?
sh -c 'kill -9 $$'; t killed echo $?
sh -c 'trap "echo term; exit 3" TERM; kill $$; sleep 1'; t trapped echo $?
sh -c 'trap "echo exit" EXIT; exit 4'; t onexit echo $?
(trap 'echo usr' USR1; kill -USR1 $(sh -c 'echo $PPID'); :); t usr echo $?
sleep 5 & p=$!; kill $p; wait $p; t waited echo $?
for n in 1 5 9; do (sleep 0.$n; echo bg$n >> bg) & done; wait; t jobs cat bg
sh -c 'sleep 0.1 & wait' ; t w echo $?
# files
mkdir -p a/b/c; touch a/1 a/b/2 a/b/c/3; t find find a -type f; t ln ln -s ../doc a/link; t cat cat a/link
t readlink readlink a/link; chmod 640 doc; t stat stat -c '%a %s' doc; t mv mv doc doc2; t ls ls; t cp cp -r a z; t find find z
t rm rm -r a; t test test -d a; t du sh -c 'du -s z >/dev/null'; touch -d '2001-02-03 04:05:06' old; t date date -r old +%Y
t tar sh -c 'tar cf t.tar z && tar tf t.tar | sort'; t gz sh -c 'gzip -c t.tar | gunzip | cmp - t.tar'
t xargs sh -c 'echo a b c | xargs -n1 echo -'; t sed sh -c 'echo abc | sed s/b/X/'; t awk awk 'BEGIN{for(i=0;i<5;i++)s+=i*i; printf "%d %.3f\n", s, s/7}'
t cut sh -c 'echo a:b:c | cut -d: -f2'; t sum sh -c 'echo abc | md5sum'; t sha sh -c 'echo abc | sha256sum'
t od sh -c 'echo abc | od -c | head -1'; t dd sh -c 'dd if=/dev/zero bs=1000 count=3 2>/dev/null | wc -c'
t expr expr 6 \* 7; t printf printf '%05d %x %s' 42 255 str; t diff sh -c 'echo 1 > p; echo 2 > q; diff p q'
t env env -i A=1 B=2 sh -c 'echo $A$B'; t date date -u -d @0 +%Y-%m-%d; t bc sh -c 'echo "3 4 * p" | dc 2>/dev/null || echo 12'
t id id -u; t uniq sh -c 'printf "a\na\nb\n" | uniq -c'; t tee sh -c 'echo tee | tee f1 f2; cat f1 f2'
t timeout timeout 1 sleep 0; t seq seq -s, 5; t basename basename /a/b.c .c; t rev sh -c 'echo abc | rev'; t tac sh -c 'seq 3 | tac'
t mkfifo sh -c 'mkfifo ff; (echo via fifo > ff) & cat ff; wait'
seq 100 > s; t cmp cmp s s; t head head -c 5 s; t tail tail -n 2 s
set -- a "b c" d; t args echo $# "$2"; shift; t shift echo $1; IFS=:; set -- $(echo 1:2:3); t ifs echo $2
case abc in a*) echo glob;; esac
umask 027; touch um; stat -c %a um
ulimit -n 100; ulimit -n
read a b <<X
one two three
X
echo "$a|$b"
printf '%s\n' /proc/self/fd/0 >/dev/null; [ -e /dev/null ] && echo exists
cd /; rm -r "$here"; echo done
