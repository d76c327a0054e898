#!/bin/sh
# sed: its commands, addresses, hold space; edits in place.
exec 2>&1
seq 1 12 >n
printf 'one two\nthree four\nfive\tsix\nseven\\eight\n' >t
try() { echo "\$ sed $*"; sed "$@"; }
try -n '3p;$p' n; try '3,10d' n; try -n '2~4p' n; try '5q' n; try '/3/,/5/!d' n; try -n '4,+2p' n; try '$!N;s/\n/ /' n; try 'n;d' n; try '1!G;h;$!d' n
try 's/o/0/2' t; try 's/\(\w*\) \(\w*\)/\2 \1/' t; try -E 's/(\w+)/<\1>/g' t; try 's/[aeiou]/\U&/g' t; try 's/\b./\u&/g' t; try 's,/,|,g;s/\t/TAB/;s/\\/BACK/' t; try 'y/abcdef/ABCDEF/' t; try -n 's/two/2/pw written' t; cat written
try '2i\before' t; try '2a after' t; try '2c\changed' t; try '1r n' t; try '/five/{s/i/I/;p}' t; try '=' t; try -n l t; try -s -n '$=' t n; try ':a;s/^\(.\{1,9\}\)$/ \1/;ta' t
try -z 's/\n/,/g' n; echo; try --expression='s/1/X/' --expression='s/X/Y/' n; printf 's/one/1/\ns/two/2/\n' >script; try -f script t; try -n '/e/I{=;p}' t; try '0,/e/s/e/E/' t; try 's/$/\r/' t; try 'N;P;D' n; try -n 'x;p' t; try 'R n' t; try '$d' n; try '1~3d' n; try 'e echo from a command' t; try 's/.*/echo &/e' n; try 'F' t; try 'Q3' n; echo $?; try 'q7' t; echo $?
cp t u; sed -i 's/one/ONE/' u; cat u; sed -i.bak 's/ONE/uno/' u; cat u u.bak; sed --in-place=.orig -e '1d' u; ls u*; ln -s u link; sed -i --follow-symlinks 's/three/drei/' link; readlink link; cat u
try 's/(/[/' t; try 's/a/b' t; try k t; try p nowhere; echo $?; echo naïve | sed 's/ï/i/;s/./X/3'; seq 1 100000 | sed -n '/7$/p' | tail -n 2; seq 1 30000 | sed 's/\([0-9]\)\([0-9]\)/\2\1/g' | cksum; yes x | head -n 20000 | sed ':a;N;$!ba;s/\n//g' | wc -c; sed --debug -n 2p n | tail -n 1; sed --posix 's/1\+/x/' n | head -n 1; echo abc | sed -u 's/b/\n/'; echo a.b.c | sed 's/\./\n/2;P;D'
rm -f n t u* link script written
