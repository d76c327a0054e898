#!/bin/bash
# What a shell asks of a kernel: processes, pipes, descriptors, signals, terminals' job control; and bash itself.
exec 2>&1
shopt -s extglob

section() { printf -- '--- %s\n' "$*"; }

section expansions
name=translation.tar.gz
echo "${name%.gz}" "${name%%.*}" "${name#*.}" "${name##*.}" "${name/tar/zip}" "${name//a/_}" "${#name}"
echo "${name^}" "${name^^}" "${name:3:5}" "${name: -2}" "${unset:-default}" "${unset:+nothing}" "${name:+set}"
(unset -v gone; : "${gone:?is not set}"; echo unreachable)
echo $?
declare -n alias=name
echo "${alias@U}" "${alias@Q}" "${!alias}"
unset -n alias
echo {a..e}{1..3} {01..10..3} {z..w}
printf '%s|' "$@" $'tab\there' "a  b"
echo
set -- one "two words" three
echo "$#:$*:${@:2}:${!#}"
IFS=, ; echo "$*"; IFS=$' \t\n'
shift 2
echo "$1" "$#"
set --

section arithmetic
echo $((7 * 6)) $((17 % 5)) $((2 ** 40)) $((-7 / 2)) $((16#ff)) $((2#1011)) $((010)) $((1 << 62)) $((~5))
((x = 5, x += 3, x <<= 2)); echo $x $((x > 30 ? x : 0)) $((x++ + ++x))
let 'y = x ** 2 % 97'; echo "$y"
echo $((9223372036854775807 + 1))
((0)) || echo "zero is false"
echo $((1 / 0))
echo $?
for ((i = 0; i < 5; i++)); do printf '%d ' $((i * i)); done; echo

section arrays
list=(alpha beta "gamma delta" [7]=eta)
list+=(theta)
echo "${#list[@]}" "${!list[@]}" "${list[2]}" "${list[@]:1:2}" "${list[-1]}"
unset 'list[0]'
printf '<%s>' "${list[@]/#/x}"; echo
declare -A map=([one]=1 [two]=2 [three]=3)
map[four]=4
for key in "${!map[@]}"; do echo "$key=${map[$key]}"; done | sort
mapfile -t lines < <(printf '%s\n' c a b)
echo "${lines[*]}" "${#lines[@]}"
readarray -d : -t parts <<<"x:y:z"
echo "${parts[1]}"
fill() { local -n out=$1; out=("${@:2}"); }
fill result p q r
echo "${result[@]}"

section functions and recursion
fib() { (($1 < 2)) && { echo "$1"; return; }; echo $(($(fib $(($1 - 1))) + $(fib $(($1 - 2))))); }
fib 9
hanoi() { if (($1 > 0)); then hanoi $(($1 - 1)) "$2" "$4" "$3"; ((moves++)); hanoi $(($1 - 1)) "$4" "$3" "$2"; fi; }
moves=0; hanoi 7 a b c; echo "moves $moves"
deep() { (($1 == 0)) && { echo "${#FUNCNAME[@]} deep"; return 7; }; deep $(($1 - 1)); }
deep 50; echo "returned $?"
scope() { local x=inner; inner() { echo "x is $x"; }; inner; }
x=outer; scope; echo "$x"

section conditions and loops
[[ abc == a* && abc != b* && abc =~ ^(a)(b)c$ ]] && echo "${BASH_REMATCH[1]}${BASH_REMATCH[2]}"
[[ 10 -gt 9 && "10" < "9" ]] && echo "numbers and strings"
case filename.txt in *.@(jpg|png)) echo image ;; *.txt) echo text ;;& file*) echo file ;; esac
while read -r a b rest; do echo "$b $a ($rest)"; done <<'END'
first second third fourth
1 2
END
until ((--x <= 0)) 2>/dev/null; do break; done
select word in yes no; do echo "chose $word"; break; done <<<2
i=0; while :; do ((i++ == 3)) && break; ((i == 2)) && continue; echo "turn $i"; done

section pipes
seq 1 20000 | grep -v 7 | sort -rn | head -n 3
yes | head -n 1 >/dev/null; echo "${PIPESTATUS[@]}"
set -o pipefail; false | true; echo $?; set +o pipefail
exit_by() { return "$1"; }
exit_by 3 | exit_by 4 | exit_by 0; echo "${PIPESTATUS[@]}"
echo pipe | { read -r line; echo "read $line"; }
shopt -s lastpipe; echo last | read -r kept; echo "kept $kept"; shopt -u lastpipe
{ echo out; echo err >&2; } 2>&1 >/dev/null | sed 's/^/stderr: /'
{ echo both; ls /nothing/there; } |& sed 's/^/> /'

section subshells and groups
v=1; (v=2; cd /; echo "$v $PWD"); echo "$v"
echo "$(echo "$(echo "$(echo nested)")")"
( ( ( exit 5 ) ) ); echo $?
{ v=3; echo group; }; echo $v
echo $BASH_SUBSHELL $(echo $BASH_SUBSHELL) $( (echo $BASH_SUBSHELL) )
[[ $$ == $(echo $$) ]] && echo "same pid of the shell"
[[ $BASHPID != $(echo $BASHPID) ]] && echo "other pid of the subshell"

section here-documents
cat <<END
expanded $((1 + 1)) $name `echo backquoted`
END
cat <<'END'
literal $((1 + 1)) `date`
END
cat <<-END
	no tabs
	here
	END
cat <<A; cat <<B
first
A
second
B
tr a-z A-Z <<<"here string"
big=$(printf '%070000d' 0); wc -c <<<"$big"

section redirections and descriptors
exec 3>file.three 4<>file.four
echo to three >&3; echo to four >&4
exec 3>&- 4>&-
cat file.three file.four
echo more >>file.three; wc -l <file.three
exec {fd}<file.three; read -r -u "$fd" line; echo "by name: $line"; exec {fd}<&-
(echo closed >&3) 2>&1 | sed 's/.*: //'
set -C; echo no >file.three || echo "kept by noclobber"; set +C
echo yes >|file.three; cat file.three
exec 5<<<"from five"; cat <&5; exec 5<&-
{ echo one; echo two >&6; } 6>file.six >/dev/null; cat file.six
read -r -n 3 letters <<<abcdef; echo $letters
read -r -t 0.01 nothing < <(sleep 1); echo "timed out: $(($? > 128))"
read -r -d '' -a words < <(printf 'a b c\0d'); echo "${#words[@]}"
rm file.*

section process substitution
diff <(seq 1 5) <(seq 2 6)
cat <(echo one) <(echo two) <(cat <(echo three))
tee >(tr a-z A-Z >upper) >(rev >reversed) <<<"split" >/dev/null; sleep 0.3
while [[ ! -s upper || ! -s reversed ]]; do sleep 0.05; done
cat upper reversed; rm upper reversed
paste -d+ <(printf '%s\n' 1 2 3) <(printf '%s\n' 4 5 6) | while read -r sum; do echo "$sum = $((sum))"; done

section coprocesses
coproc DOUBLE { while read -r n; do echo $((n * 2)); done; }
for n in 4 5 6; do echo $n >&"${DOUBLE[1]}"; read -r twice <&"${DOUBLE[0]}"; echo "$n -> $twice"; done
doubler=$DOUBLE_PID; exec {DOUBLE[1]}>&-
wait "$doubler"; echo "coproc ended with $?"

section signals and traps
trap 'echo "got USR1"' USR1
kill -USR1 $$; kill -s USR1 $$
trap - USR1
(trap 'echo cleaning; exit 3' TERM; kill -TERM $BASHPID; sleep 5); echo "ended with $?"
(trap '' TERM; kill -TERM $BASHPID; echo "ignored TERM")
(trap 'echo at exit' EXIT; exit 6); echo $?
trap 'echo "error at line $LINENO with $?"' ERR; false; trap - ERR
trace() { trap 'echo "debug: $BASH_COMMAND"' DEBUG; : a; : b; trap - DEBUG; }; trace
{ (kill -KILL $BASHPID); } 2>/dev/null; echo "killed: $?"
{ sh -c 'kill -SEGV $$'; } 2>/dev/null; echo "segmentation: $?"
bash -c 'trap "echo child caught HUP" HUP; kill -HUP $$; echo goes on'
trap 'ended=yes' CHLD; (exit 0) & wait; trap - CHLD; echo "child ended: $ended"
sleep 100 & sleeper=$!; kill $sleeper; wait $sleeper; echo "sleeper: $?"
trap 'echo winch' WINCH; for i in 1 2 3; do kill -WINCH $$; done; trap - WINCH
trap -p; trap 'echo kept' INT; trap -p INT; (trap -p INT); trap - INT
trap 'echo interrupted wait' USR2; (sleep 0.2; kill -USR2 $$) & wait $!; status=$?; wait; ((status > 128)) && echo "wait returned early"
trap - USR2
kill -l 9 15 11; kill -l SIGCHLD

section jobs
jobs >/dev/null; set -m
until_stopped() { local n; for n in {1..200}; do [[ $(jobs) == *Stopped* ]] && return; sleep 0.05; done; echo "never stopped"; }
sleep 100 & jobs | sed 's/  */ /g'
kill -STOP %1; until_stopped; jobs | sed 's/  */ /g'
bg %1 >/dev/null; jobs | sed 's/  */ /g'
kill %1; wait %1; echo "job: $?"
(exit 4) & (exit 5) & wait $!; echo $?; wait
for n in 3 1 2; do (sleep 0.$n; echo "slept $n") & done; wait
(sleep 0.1; exit 9) & wait -n; echo "first to end: $?"
(exec sleep 100) & group=$!; kill -- -$group; wait $group; echo "group: $?"
set +m
bash -c 'kill -STOP $$; echo resumed' & stopped=$!
while kill -CONT $stopped 2>/dev/null; do sleep 0.05; done; wait $stopped; echo $?
disown -a; jobs

section many children
for i in {1..60}; do (exit $((i % 7))) & pids[i]=$!; done
sum=0; for i in {1..60}; do wait "${pids[i]}"; ((sum += $?)); done; echo "sum of statuses $sum"
seq 1 40 | xargs -P 4 -n 1 sh -c 'echo $(($0 * $0))' | sort -n | tail -n 2
total=0; for i in {1..30}; do total=$((total + $(echo $i))); done; echo $total

section eval, source, exec, options
eval 'generated() { echo "generated with $1"; }'; generated eval
echo 'sourced=$((6 * 7)); return 8' >sourced.sh; . ./sourced.sh; echo "$? $sourced"; rm sourced.sh
bash -c 'exec -a other bash -c "echo \$0"' ; (exec echo replaced; echo unreachable)
bash -e -c 'false; echo unreachable'; echo $?
bash -u -c 'echo $nothing_here'; echo $?
bash -x -c 'a=1; echo $a' 2>&1
bash -n -c 'if'; echo $?
bash -c 'echo $0 $1 $#' zero one two
printf '%s\n' 'echo "from stdin: $1"' | bash -s argument
env -i PATH="$PATH" FOO=bar bash -c 'echo $FOO; export -p | grep FOO'
command -v cd type if | tr '\n' ' '; type -t section; builtin echo built in
nothing_of_this_name; echo $?
./; echo $?
printf '#!/bin/bash\necho "script $0 got $*"\n' >run; chmod +x run; ./run a "b c"; rm run
printf 'echo "no interpreter line, $1"\n' >run; chmod +x run; ./run works; rm run
printf '#!/usr/bin/env -S bash -c "echo by env \\$0"\n' >run; chmod +x run; ./run; rm run
printf '#!/nowhere/bash\n' >run; chmod +x run; ./run; echo $?; rm run

section printf, getopts, umask, ulimit, times
printf '%5d|%-5s|%05.1f|%x|%o|%c|%b|%q\n' 42 ab 3.14159 255 8 zebra 'a\tb' 'it'\''s'
printf '%(%Y-%m-%d)T\n' 86400
printf -v padded '%08.3f' 2.5; echo "$padded"
opts() { local OPTIND o; while getopts ':ab:c' o; do echo "$o ${OPTARG-}"; done; shift $((OPTIND - 1)); echo "rest $*"; }
opts -a -b value -x -c rest of it
umask 027; umask; umask -S; : >made; stat -c %a made; rm made; umask 022
(ulimit -n 20; ulimit -n; ulimit -c 0; ulimit -c)
(ulimit -f 1; head -c 3000 /dev/zero >big; echo "limited: $?"; stat -c %s big; rm big) 2>/dev/null
[[ $SECONDS -ge 0 && $RANDOM -ge 0 && $EPOCHSECONDS -gt 1000000000 ]] && echo "counters count"
times | grep -c m
[[ -t 0 ]] || echo "no terminal"

section globbing
mkdir -p tree/{a,b}/{x,y}; touch tree/{a,b}/{x,y}/{1,2}.txt tree/.hidden
echo tree/*/x/?.txt; echo tree/[!b]/y/[1-9].txt
shopt -s globstar dotglob; echo tree/**/2.txt; echo tree/*; shopt -u dotglob
shopt -s nullglob; echo none tree/*.none; shopt -u nullglob; echo tree/*.none
echo tree/!(b); GLOBIGNORE=tree/a; echo tree/*; unset GLOBIGNORE
[[ -d tree && ! -f tree && -r tree/a && -w tree/a && -x tree/a && tree/a -ef tree/./a ]] && echo "file tests"
pushd tree/a >/dev/null; pushd ../b >/dev/null; dirs -p | sed 's:.*/::' | head -n 2; popd >/dev/null; popd >/dev/null
(cd -P tree/a/x && cd ../../b && basename "$PWD")
rm -r tree

section "a program of some length"
# A small inventory: records in here-documents, functions with locals, arrays of names, pipes between them.
declare -A stock price
read_stock() {
    local name count cost
    while IFS=: read -r name count cost; do
        [[ $name == \#* || -z $name ]] && continue
        stock[$name]=$(( ${stock[$name]:-0} + count ))
        price[$name]=$cost
    done
}
read_stock <<END
# name:count:price
bolt:100:3
nut:250:2

gear:7:120
bolt:20:4
END
report() {
    local name total=0
    while read -r name; do
        printf '%-6s %4d x %3d = %6d\n' "$name" "${stock[$name]}" "${price[$name]}" \
            $(( stock[$name] * price[$name] ))
        (( total += stock[$name] * price[$name] ))
    done < <(printf '%s\n' "${!stock[@]}" | sort)
    echo "total $total"
}
report
report | tee inventory.txt | sed -n '$p'
sell() {
    local name=$1 count=$2
    if (( count > ${stock[$name]:-0} )); then
        echo "only ${stock[$name]:-0} of $name" >&2
        return 1
    fi
    (( stock[$name] -= count ))
}
sell gear 3 && sell gear 9 2>errors.txt || echo "refused: $(<errors.txt)"
sell rope 1 2>/dev/null; echo "status $?"
diff <(report) inventory.txt | sed -n '/^[<>]/p'

section "a queue between processes"
mkfifo queue
worker() {
    local id=$1 job sum=0
    while read -r job; do
        (( sum += job ))
    done
    echo "$id $sum"
}
exec 7<>queue
for job in {1..40}; do echo "$job" >&7; done
(for i in {1..40}; do read -r job <&7; echo "$job"; done) | worker all
exec 7>&-
rm queue inventory.txt errors.txt

section "traps and subshells within each other"
outer() {
    trap 'echo "outer return"' RETURN
    (
        trap 'echo "inner exit $?"' EXIT
        trap 'echo "inner usr1"; exit 5' USR1
        kill -USR1 $BASHPID
        echo "not reached"
    )
    echo "subshell gave $?"
    trap - RETURN
}
outer
set -o pipefail
(exit 3) | cat | (exit 0); echo "pipefail $? of ${PIPESTATUS[*]:-none}"
set +o pipefail
count=0; until (( ++count == 4 )); do (( count == 2 )) && continue; echo "round $count"; done
trap 'echo bye' EXIT
exit 23
