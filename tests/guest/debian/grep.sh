#!/bin/sh
# grep with its matchers, contexts, and trees; large inputs.
exec 2>&1
cat >text <<'END'
The quick brown fox
jumps over the lazy dog.
foo.bar foo-bar fooxbar
Zahl: 42, 0x2A, 052, -7.5e3
  indented line
naïve façade — œuvre
aaa bbb abab
user@example.org and other@example.net
END
printf 'binary\0data foo\n' >binary
try() { echo "\$ grep $*"; grep "$@"; echo "= $?"; }
try fox text; try -i THE text; try -v o text; try -c o text; try -n o text; try -w foo text; try -x '  indented line' text
try -o '[0-9]\+' text; try -E 'foo(.|-)bar' text; try -F 'foo.bar' text; try -P '\b\w+(?=@)' -o text; try -P '(?<=x)2A' -o text
try -E '^(a+) (b+) (ab)+$' text; try '\(ab\)\1' text; try -E '[[:upper:]][[:lower:]]+' -o text; try 'ï' text; try -E 'fa.ade' text; try -o '\w*vre' text
try -A1 -B1 lazy text; try -C1 -n Zahl text; try -m 2 o text; try -b fox text; try -l foo text binary; try -L foo text binary; try foo binary; try -a foo binary; try -z data binary; try -q nothing text; try -s x nowhere; try x nowhere
try -H fox text; try -h foo text binary; try -e fox -e dog text; try --color=always fox text; try -E '(' text; try -y FOX text; try --line-buffered fox text; try -u fox text
printf 'fox\ndog\n' >patterns; try -f patterns text; mkdir -p dir/sub; cp text dir/sub/a.txt; echo fox >dir/b.c; echo fox >dir/.h
grep -r fox dir | sort; grep -r --include='*.c' fox dir; grep -r --exclude-dir=sub fox dir | sort; grep -rl fox . | sort; (cd dir && grep -r fox | sort)
seq 1 200000 | grep -c 77; seq 1 100000 | grep -E '^(1|2)+$' | tail -n 2; seq 1 50000 | grep -P '^(\d)\1+$' | wc -l; seq 1 50000 | grep -F -c -f patterns; seq 1 50000 | grep -w 4242; seq 100000 | grep -v 1 | tail -n 1
yes abcdefghij | head -n 50000 | tr -d '\n' | grep -o 'jab' | wc -l; head -c 3000000 /dev/zero | tr '\0' 'x' | grep -c 'xy'; egrep 'a|b' text 2>/dev/null | wc -l; fgrep . text 2>/dev/null | wc -l; zgrep fox text; echo fox | grep - ; echo fox | grep -c fox -
rm -r dir text binary patterns
