#!/bin/sh
# find and xargs on a tree with files of every kind.
exec 2>&1
export LC_ALL=C
mkdir -p tree/one/two/three tree/empty "tree/with space" tree/skip/inside
for n in 1 2 3; do head -c $((n * 1000)) /dev/zero >tree/one/file$n.txt; echo $n >tree/one/two/$n.c; done
touch "tree/with space/a b" "tree/with space/new
line" tree/.hidden tree/skip/inside/lost
ln -s one/file1.txt tree/link; ln -s nowhere tree/broken; ln tree/one/file1.txt tree/hard; mkfifo tree/fifo
chmod 600 tree/one/file2.txt; chmod +x tree/one/two/1.c; touch -d '2000-01-01' tree/one/file3.txt
sorted() { sort | sed 's/^/  /'; }
say() { echo "$*"; "$@" | sorted; }

say find tree
say find tree -type d
say find tree -type l -printf '%p -> %l %Y\n'
say find tree -type p -o -type f -name '.*'
say find tree -name '*.txt' -size +1k
say find tree -name '*.txt' -size -1001c
say find tree -perm 600 ; say find tree -type f -perm /111; say find tree -perm -u=rwx -type f
say find tree -empty
say find tree -newer tree/one/file3.txt -type f -path '*/one/*'
say find tree -mtime +1000
say find tree -links +1 -type f
say find tree -samefile tree/hard
say find tree -maxdepth 1 -mindepth 1
say find tree -path tree/skip -prune -o -type f -print
say find tree -regex '.*/[0-9]\.c'
say find tree -regextype posix-extended -iregex '.*/FILE(1|3)\.TXT'
say find tree ! -type f ! -type d
say find tree \( -name '1*' -o -name '2*' \) -a -type f
say find -L tree -type l
say find -H tree/link -printf '%f %s %y\n'
say find tree -type f -printf '%f %s %m %n %d %h %H %P\n'
say find tree/one -type f -exec basename {} \;
find tree/one/two -type f -exec echo all: {} + | tr ' ' '\n' | sorted
say find tree/one -execdir echo {} \;
find tree -name '*.c' -exec grep -q 2 {} \; -print
find tree -type f -print0 | sort -z | xargs -0 -n 2 echo | sorted
find tree -depth -name '*three*' -delete; find tree -name three | wc -l
find tree -type f -name '*.txt' -fprint list -quit; wc -l <list; rm list
find tree -ls | wc -l
find nothing; echo $?
find tree -type f -readable -writable -user "$(id -un)" | wc -l
find tree -uid "$(id -u)" -gid "$(id -g)" -nouser | wc -l
find / -maxdepth 1 -name usr -printf '%f\n'
find /proc/self/fd -maxdepth 1 -name 0 -printf '%f\n'
find . -maxdepth 0 -printf '%y\n'
(cd tree && find one -type d | sorted)
find tree -type f -size 0 -ok echo {} \; </dev/null 2>/dev/null | wc -l

echo xargs
seq 10 | xargs; seq 10 | xargs -n 3; seq 3 | xargs -I N echo "<N>"; seq 4 | xargs -L 2 echo line
printf "a 'b c' d\\\\ e\n" | xargs -n 1; printf 'a b' | xargs -d ' ' -n 1; printf '1\0002\000' | xargs -0 echo
echo | xargs echo ran; echo | xargs -r echo "did not run"; seq 5 | xargs -s 20 echo
seq 20 | xargs -P 4 -n 5 sh -c 'echo $#' | sort | uniq -c | sed 's/^ *//'
echo x | xargs false; echo $?; echo x | xargs sh -c 'exit 255'; echo $?; echo x | xargs nothing_of_this_name; echo $?; echo x | xargs sh -c 'kill -9 $$'; echo $?
seq 3 | xargs -t echo; seq 100000 | xargs echo | wc -w; seq 2 | xargs --process-slot-var=SLOT -n 1 sh -c 'echo slot $SLOT'
echo file | xargs -a /dev/null echo none; seq 3 >args; xargs -a args echo; xargs -E 2 <args; rm args
