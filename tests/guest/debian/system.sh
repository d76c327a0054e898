#!/bin/bash
# The system around programs: processes, files under /proc, locks, terminals, time, IPC, limits, sparse and big files.
exec 2>&1
section() { printf -- '--- %s\n' "$*"; }
settled() { local n; for n in {1..200}; do "$@" && return; sleep 0.05; done; echo "never: $*"; }

section processes
sleep 50 & one=$!
settled test "$(ps -o comm= -p $one)" = sleep
ps -o comm=,args= -p $one; pgrep -P $$ -x sleep | grep -c .; cat /proc/$one/comm; cat /proc/self/cmdline | tr '\0' ' '; echo
readlink /proc/self/exe | sed 's:.*/::'; grep -E '^(Name|State|Threads)' /proc/self/status; wc -l </proc/self/maps | grep -c .; grep -c stack /proc/self/maps; ls /proc/self/fd | head -n 3 | tr '\n' ' '; echo; cut -d' ' -f2 /proc/self/stat; cat /proc/self/environ | tr '\0' '\n' | grep -c PATH; head -c 4 /proc/self/auxv | wc -c; cat /proc/self/limits | head -n 1 | cut -c1-5; [ -r /proc/meminfo ] && free | wc -l; uptime -p | cut -c1-2; [ "$(cat /proc/sys/kernel/ostype)" = Linux ] && echo ostype; [[ $(</proc/self/stat) == *"(bash)"* ]] && echo "bash reads its own"
kill -STOP $one; settled test "$(ps -o stat= -p $one | cut -c1)" = T 2>/dev/null >/dev/null; kill -CONT $one; pkill -P $$ -x sleep; wait $one; echo "ended $?"
pidof nothing_here; echo $?; (exec -a renamed sleep 20) & sleep 0.2; settled grep -qs renamed /proc/$!/cmdline; tr '\0' ' ' </proc/$!/cmdline; echo; kill $!; wait $! 2>/dev/null
setsid sh -c 'ps -o pid=,sid= -p $$ | (read a b; [ "$a" = "$b" ] && echo "leads a session")'; setsid -w sh -c 'exit 6'; echo $?; nice -n 7 ps -o ni= -p $$ | grep -c .; renice -n 3 $$ | sed 's/[0-9]\+/N/g'; chrt -p $$ | sed 's/[0-9]\+/N/g'; ionice -p $$; taskset -p $$ | sed "s/pid [0-9]*'s//;s/: .*//"; taskset -c 0 nproc; prlimit --nofile=55 sh -c 'ulimit -n'; timeout 1 sh -c 'ulimit -t 1; ulimit -t'

section locks and waiting
(flock 9; echo first; sleep 0.3) 9>lock & sleep 0.1; flock lock echo second; wait; flock -n lock sh -c 'flock -n lock echo no || echo "locked out"'; (flock -s 9; flock -s -n lock echo shared) 9<lock; flock -w 0.1 lock true && echo "free again"; rm lock
(sleep 0.1; echo written >fifo) & mkfifo fifo; read -r line <fifo; echo "$line"; wait; rm fifo
echo first >watched; (sleep 0.2; echo second >>watched) & tail -f -n 1 watched --pid=$! | sort | tail -n 1; wait; rm watched

section terminals
script -qec 'tty >/dev/null && echo "a terminal"; stty size >/dev/null && stty -a | grep -o "speed [0-9]* baud"; stty -echo; stty -a | grep -o -- "-echo "; stty rows 33 cols 77; stty size; ps -o stat= -p $$ | grep -c +' /dev/null | tr -d '\r'
printf 'echo typed; exit 7\n' | script -qec 'bash --norc --noediting' /dev/null | tr -d '\r' | grep -c typed; script -qec 'exit 5' /dev/null; echo $?
script -qec 'trap "echo interrupted" INT; kill -INT $$; stty -isig; echo done' /dev/null | tr -d '\r'
(sleep 0.5; printf '\003') | script -qec 'trap "echo by key; exit 0" INT; sleep 30 & wait' /dev/null | tr -d '\r' | grep -c 'by key'
cat >jobs.bash <<'END'
set -m
sleep 30 &
fg %1 >/dev/null &
cat & sleep 0.3; jobs | sed 's/  */ /g'
kill %1 %3 2>/dev/null; kill -CONT %3; wait 2>/dev/null
END
(sleep 2) | script -qec 'bash jobs.bash' /dev/null | tr -d '\r' | grep -c Stopped; rm jobs.bash

section time
start=$(date +%s%N); sleep 0.05; (($(date +%s%N) - start >= 50000000)) && echo "time passes"; date -d @1e9 2>&1 | cut -c1-5; TZ=JST-9 date -d @0 +%H; cal 2>/dev/null | head -c 0; date -u -d '1970-01-01 00:01' +%s

section files
truncate -s 3G big; stat -c %s big; printf end | dd of=big bs=1 seek=3000000000 conv=notrunc status=none; tail -c +3000000001 big | head -c 3; echo; cmp -i 3000000000:0 -n 3 big <(printf end) && echo "beyond 2 GiB"; cp --sparse=always big copy && stat -c %s copy && (($(stat -c %b copy) < 1000)) && echo sparse; fallocate -p -o 3000000000 -l 4096 big && tail -c +3000000001 big | head -c 3 | od -An -tx1; rm big copy
touch a; ln a b; chattr +x a 2>/dev/null; setfattr 2>/dev/null; touch -h -d @1 b; stat -c %Y a; mv -T a c; ls; getopt -o ab: --long long: -- -a -b x --long y z; mountpoint -q /proc && echo "proc is mounted" ; findmnt >/dev/null && echo mounts; df -h . >/dev/null && echo df; lsblk >/dev/null 2>&1; rename 2>/dev/null; namei -m b | tail -n 1; whereis -b nothing; rev <<<abc; mcookie | wc -c; rm b c
for n in {1..300}; do echo $n >f$n; done; ls | wc -l; cat f* | sort -n | tail -n 1; rm f*; (for i in {1..50}; do echo line $i; done) >>appended & (for i in {1..50}; do echo line $i; done) >>appended; wait; wc -l <appended; rm appended
exec 3<>/dev/tcp/127.0.0.1/1 || echo "connection refused"
python3 - <<'END'
import mmap, os, select, signal, socket, struct, time, fcntl, resource, ctypes, tempfile
with open("m", "w+b") as f:
    f.truncate(10000); m = mmap.mmap(f.fileno(), 10000); m[5000:5005] = b"mapped"[:5]; m.flush(); f.seek(5000); print(f.read(5)); m.close()
os.unlink("m")
shared = mmap.mmap(-1, 4096)
if os.fork() == 0: shared[:3] = b"kid"; os._exit(0)
os.wait(); print(shared[:3])
r, w = os.pipe(); poll = select.epoll(); poll.register(r, select.EPOLLIN); print(poll.poll(0.01)); os.write(w, b"x"); print(poll.poll(5) == [(r, select.EPOLLIN)])
print(fcntl.fcntl(w, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY, fcntl.fcntl(w, 1031, 131072), os.get_terminal_size.__name__)
a, b = socket.socketpair(); socket.send_fds(a, [b"fds"], [r]); data, fds, _, _ = socket.recv_fds(b, 10, 1); print(data, os.read(fds[0], 1))
a.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 20000))
try: a.recv(1)
except BlockingIOError: print("timed out")
print(struct.unpack("3i", b.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0] == os.getpid())
fd = os.memfd_create("m"); os.write(fd, b"memory"); print(os.pread(fd, 6, 0), os.readlink(f"/proc/self/fd/{fd}"), os.eventfd_read(os.eventfd(7)))
signal.signal(signal.SIGALRM, lambda *a: None); signal.setitimer(signal.ITIMER_REAL, 0.05); signal.pause(); print("alarm", signal.getitimer(signal.ITIMER_REAL))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.kill(os.getpid(), signal.SIGUSR1); info = signal.sigtimedwait([signal.SIGUSR1], 5); print(info.si_signo == signal.SIGUSR1, info.si_pid == os.getpid(), signal.sigtimedwait([signal.SIGUSR1], 0.01), signal.sigpending())
print(os.sched_getaffinity(0) != set(), os.getpriority(os.PRIO_PROCESS, 0) >= 0, resource.getrusage(resource.RUSAGE_SELF).ru_utime > 0, time.clock_gettime(time.CLOCK_BOOTTIME) > 0, time.get_clock_info("monotonic").resolution)
out, inp = os.open("o", os.O_RDWR | os.O_CREAT, 0o600), os.open(tempfile.gettempdir() if False else "o", os.O_RDONLY); os.write(out, b"0123456789"); print(os.copy_file_range(inp, out, 5, 0, 10), os.pread(out, 20, 0), os.sendfile(w, inp, 2, 4), os.read(r, 10), os.posix_fallocate(out, 0, 100), os.fstat(out).st_size); os.unlink("o")
os.mkdir("dir"); d = os.open("dir", os.O_RDONLY); os.mkdir("in", dir_fd=d); os.symlink("in", "link", dir_fd=d); print(sorted(os.listdir(d)), os.readlink("link", dir_fd=d), os.stat("in", dir_fd=d).st_nlink); os.rename("in", "new", src_dir_fd=d, dst_dir_fd=d); os.rmdir("new", dir_fd=d); os.unlink("link", dir_fd=d); os.rmdir("dir")
libc = ctypes.CDLL(None, use_errno=True); print(libc.syscall(9999), ctypes.get_errno(), ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x * 2)(21), libc.getauxval(6) if hasattr(libc, "getauxval") else 4096)
print(os.statvfs(".").f_bsize > 0, os.getgroups() is not None, len(os.getresuid()), os.uname().sysname, os.getloadavg() is not None, os.cpu_count() > 0, os.sysconf("SC_PAGE_SIZE"), os.confstr("CS_PATH"))
END

section messages and semaphores
for kind in q:-Q s:-S\ 3 m:-M\ 4096; do id=$(ipcmk ${kind#*:} | sed 's/.*: //'); ipcs -${kind%%:*} -i "$id" | grep -c "${id}"; ipcrm -${kind%%:*} "$id" && echo removed; done
exit 0
