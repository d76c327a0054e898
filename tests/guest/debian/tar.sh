#!/bin/sh
# tar with every compressor; what it keeps; and the compressors by themselves.
exec 2>&1
mkdir -p tree/sub/deep tree/empty; for n in 1 2 3; do seq $((n * 3000)) >tree/sub/file$n; done
head -c 200000 /dev/zero >tree/zeros; ln -s sub/file1 tree/link; ln tree/sub/file1 tree/hard; mkfifo tree/fifo
truncate -s 1000000 tree/sparse; printf end >>tree/sparse; chmod 751 tree/sub; chmod u+s tree/sub/file2; touch -d '2001-02-03 04:05:06' tree/sub/file3
long=tree/$(printf '%0120d' 0)/$(printf '%0100d' 1); mkdir -p "$long"; echo long >"$long/name"
show() { find "$1" -printf '%P %y %m %s %l %n\n' | sed 's/^\(.* d [0-7]* \)[0-9]*/\1/' | sort | cksum; find "$1" -type f -exec cat {} + | wc -c; }
show tree
for way in -z -j -J --zstd -Z ''; do
    [ "$way" = -Z ] && continue
    tar -c $way -f "archive$way" --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 tree && tar -t $way -f "archive$way" | wc -l
    mkdir out; tar -x $way -f "archive$way" -C out; echo "status $?"; show out/tree; rm -r out
done
cksum <archive; xz -dc archive-J | cmp - archive && zstd -dc --quiet archive--zstd | cmp - archive && gzip -dc <archive-z | cmp - archive && bzip2 -dc <archive-j | cmp - archive && echo "the same inside"
tar -tvf archive --wildcards '*file3' '*link' | sed 's/  */ /g'; tar -xOf archive tree/sub/file1 | tail -n 1; tar --to-command='wc -c' -xf archive tree/sub/file2
tar -xaf archive-J tree/sub/file1 --transform='s,tree/sub,elsewhere,'; ls elsewhere; tar -rf archive elsewhere; tar -uf archive elsewhere; tar --delete -f archive elsewhere; tar -tf archive | tail -n 1
tar -cSf holes tree/sparse; wc -c <holes; mkdir out; tar -xf holes -C out; cmp out/tree/sparse tree/sparse && [ "$(stat -c %b out/tree/sparse)" -lt 100 ] && echo "sparse again"; rm -r out
tar -cf - tree | (mkdir piped && cd piped && tar -xf - && show tree); tar -df archive && echo "no difference"; echo x >>tree/sub/file1; tar -df archive 2>&1 | tail -n 1
tar -c --exclude='file*' -f - tree | tar -t | wc -l; find tree -name 'file*' -print0 | sort -z | tar -c --null -T - -f few; tar -tf few; tar -cf none nowhere; echo $?; echo junk | tar -xf -; echo $?; tar -cML 100 -f volume1 -f volume2 -f volume3 tree/sub/file3 && ls volume*
tar --format=pax -cf pax tree/sub && tar --format=ustar -cf ustar tree/sub && tar --format=v7 -cf v7 tree/sub && tar -tf pax | wc -l; tar -cf inc --listed-incremental=snap tree; echo new >tree/new; tar -cf inc2 --listed-incremental=snap tree; tar -tf inc2 | grep -v '/$' | head -n 3
echo compressors
seq 60000 >n
for level in 1 6 9; do gzip -$level -n -c n | wc -c; bzip2 -$level -c n | wc -c; xz -$level -c n | wc -c; zstd -$level -q -c n | wc -c; done
gzip -k n; gzip -l n.gz; gzip -t n.gz && gunzip -c n.gz | cmp - n; zcat n.gz | tail -n 1; bzip2 -k n; bzip2 -t n.bz2; bunzip2 -c n.bz2 | cmp - n; xz -k -T2 n; xz -t n.xz; xz -l n.xz | tail -n 1 | cut -c1-11; xzcat n.xz | cmp - n; xz --format=lzma -c n | xz -dc --format=lzma | cmp - n; zstd -q -k -T2 n; zstd -q -t n.zst; zstdcat n.zst | cmp - n; zstd -q --ultra -19 -c n | zstd -dc -q | cmp - n; zstd -q --train n n n n n n n -o dict 2>/dev/null; echo junk | gzip -d; echo $?; echo junk | xz -d; echo $?; echo junk | zstd -d -q; echo $?; head -c 100 n.gz | gunzip | wc -c; gzip -r tree; ls tree/sub; gzexe 2>/dev/null; zdiff n.gz n && zgrep -c 77 n.gz
rm -rf tree piped elsewhere archive* holes none few volume* pax ustar v7 inc* snap n* dict
