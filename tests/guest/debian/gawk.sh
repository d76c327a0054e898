#!/bin/sh
# gawk: language, arrays, pipes, sockets, coprocesses, big numbers.
exec 2>&1
cat >data <<'END'
ann 34 berlin 1200.50
bob 27 paris 980
cyd 41 berlin 1500.75
dee 27 rome 1100
END
gawk '{ print NR, NF, $1, $NF }' data
gawk '$2 > 30 { n++; s += $4 } END { printf "%d %.2f\n", n, s / n }' data
gawk '{ city[$3] += $4 } END { PROCINFO["sorted_in"] = "@ind_str_asc"; for (c in city) print c, city[c] }' data
gawk -F: -v OFS=- 'BEGIN { $0 = "a:b:c"; $2 = "X"; print; NF = 5; print; print NF }'
gawk 'BEGIN { print length("naïve"), toupper("äöü"), substr("hello", 2, 3), index("hello", "l"), tolower("ABC") }'
gawk 'BEGIN { s = "foo bar foo"; n = gsub(/foo/, "[&]", s); print n, s; print gensub(/(b)(a)/, "\\2\\1", "g", s); print match(s, /bar/), RSTART, RLENGTH }'
gawk 'BEGIN { n = split("a,b;c", p, /[,;]/, seps); for (i = 1; i <= n; i++) printf "%s%s", p[i], seps[i]; print ""; print asort(p) }'
gawk 'BEGIN { print 2 ** 10, 7 % 3, int(-3.7), sqrt(2), exp(1), log(10), sin(1), cos(1), atan2(1, 2) }'
gawk 'BEGIN { printf "%5.2f|%-6s|%06d|%x|%o|%e|%c|%%|%i\n", 3.14159, "ab", 42, 255, 8, 12345.678, 65, 7.9 }'
gawk -M 'BEGIN { x = 1; for (i = 1; i <= 60; i++) x *= i; print x; PREC = 200; print 1 / 3 }' 2>/dev/null
gawk 'function fact(n) { return n < 2 ? 1 : n * fact(n - 1) } function change(a) { a["x"] = 1 } BEGIN { print fact(20); change(t); print t["x"]; f = "fact"; print @f(5) }'
gawk 'BEGIN { a[1][2] = 3; a["x"]["y"] = "z"; print isarray(a[1]), a["x"]["y"], length(a); delete a[1]; print length(a); print (1 in a) }'
gawk 'BEGIN { while (("echo one; echo two" | getline line) > 0) print "got " line; "date -u -d @0 +%Y" | getline year; print year }'
gawk 'BEGIN { print "b\na\nc" | "sort"; close("sort"); print "done"; print system("exit 3"); print "to stderr" > "/dev/stderr" }'
gawk 'BEGIN { c = "tr a-z A-Z"; print "coprocess" |& c; close(c, "to"); c |& getline x; print x; print close(c) }'
gawk 'BEGIN { while ((getline line < "data") > 0) n++; print n; print "x" > "out"; print "y" >> "out"; close("out"); while ((getline line < "out") > 0) print line; print (getline line < "/nowhere") }'
gawk 'BEGIN { RS = ""; } { print NR ": " $1 }' <<'END'
para one
more

para two
END
gawk 'BEGIN { FIELDWIDTHS = "2 3 *" } { print $1 "|" $2 "|" $3 }' <<'END'
aabbbcccc
END
gawk 'BEGIN { FPAT = "([^,]+)|(\"[^\"]+\")" } { print $2 }' <<'END'
a,"b,c",d
END
gawk 'BEGIN { print strftime("%F %T", 86399, 1), mktime("1970 01 02 00 00 00"), strtonum("0x1F"), and(12, 10), or(12, 10), xor(12, 10), lshift(1, 8), compl(0) % 16 }'
gawk 'NR == 2, NR == 3 { print FILENAME, FNR } /rome/ { exit 4 } END { print "end" }' data; echo $?
gawk 'BEGIN { for (;;) { if (++i > 5) break; if (i % 2) continue; print i } do { i-- } while (i > 3); print i; switch (i) { case 3: print "three"; break; default: print "other" } }'
gawk 'BEGIN { srand(1); a = rand(); srand(1); print a == rand(), srand(5), srand() }'
gawk 'BEGIN { printf "%s %s\n", ENVIRON["TZ"], ARGC; print ARGV[1] }' argument
gawk '@include "/dev/stdin"; BEGIN { print included() }' <<'END'
function included() { return "included" }
END
gawk -i inplace '{ sub(/ann/, "ANN"); print }' data; head -n 1 data
gawk 'BEGIN { s = "/inet/tcp/0/127.0.0.1/1"; print (s |& getline x) < 0 ? "refused" : x }' 2>/dev/null
gawk 'BEGIN { for (i = 0; i < 100000; i++) { h[i % 1000] += i; s = s (i % 10) } print length(s), h[7], h[999] }'
seq 1 50000 | gawk '{ s += $1; q += $1 * $1; w[length($1)]++ } END { print s, q, w[1], w[2], w[3], w[4], w[5] }'
gawk --version | head -n 1 | cut -d, -f1; gawk 'BEGIN { print (PROCINFO["version"] != ""), typeof(x), typeof(1), typeof("a"), typeof(/r/) }'; gawk 'BEGIN { print 1 / 0 }'; echo $?; gawk 'BEGIN { print ( }' 2>&1 | head -n 1; gawk '{' </dev/null 2>/dev/null; echo $?
gawk -l filefuncs 'BEGIN { print stat("data", s), s["size"], s["type"] }'; gawk -l fork 'BEGIN { if ((pid = fork()) == 0) { print "child"; exit 0 } wait(); print "parent" }'; gawk -l time 'BEGIN { print (gettimeofday() > 0); sleep(0.01) }'; gawk -l readdir -l ordchr 'BEGIN { print ord("A"), chr(66) }'
rm -f data out
