#!/usr/bin/perl
# perl: fork, pipes, sockets, signals, regular expressions, sorting, files, threads of the interpreter.
use strict;
use warnings;
use POSIX qw(:sys_wait_h :signal_h floor strftime mkfifo);
use Socket;
use IO::Socket::INET;
use IO::Socket::UNIX;
use IO::Select;
use IO::Handle;
use Time::HiRes qw(sleep time alarm setitimer ITIMER_REAL);
use Fcntl qw(:flock :seek SEEK_SET);
use File::Temp qw(tempfile tempdir);
use File::Find;
use List::Util qw(sum max first shuffle);
use Digest::SHA qw(sha256_hex);
use MIME::Base64;
use Storable qw(freeze thaw);
use threads;
use threads::shared;
STDOUT->autoflush(1);

# text
my $text = "The year 1999 and 2024, mail a.b\@example.org; naive façade";
print join("|", $text =~ /(\d{4})/g), "\n";
(my $swapped = $text) =~ s/(\w+) (\w+)/$2 $1/;
print "$swapped\n";
print "named $+{user} at $+{host}\n" if $text =~ /(?<user>[\w.]+)@(?<host>[\w.]+)/;
my $nested = qr/\((?:[^()]++|(?R))*\)/;
print "balanced: $&\n" if "x(a(b)c(d(e)))y" =~ $nested;
print join(",", map { sprintf "%03d", $_ } grep { $_ % 3 == 0 } 1 .. 20), "\n";
print scalar reverse("abc"), " ", ucfirst(lc "HELLO"), " ", "ab" x 3, " ", sprintf("%.3e %x %b %s", 12345.678, 255, 10, "z"), "\n";
my %count;
$count{lc $_}++ for "a B a c b A" =~ /\w/g;
print join(" ", map { "$_=$count{$_}" } sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count), "\n";
print "tr: ", ($text =~ tr/a-e//), " ", join(":", unpack("A2 n C", pack("A2 n C", "hi", 513, 65))), "\n";
{ use utf8; my $u = "naïve"; binmode STDOUT, ":utf8"; print length($u), uc($u), "\n"; binmode STDOUT, ":raw"; }
my $big = join "", map { chr(97 + $_ % 26) } 0 .. 99999;
print length($big), " ", () = $big =~ /xyz/g, "\n";
print 1e308 * 10, " ", 9**0.5, " ", int(-7 / 2), " ", -7 % 3, " ", 2**53 + 1, " ", 0.1 + 0.2, " ", floor(-0.5), "\n";
use bigint ();
{ use bigint; print 2**100, "\n"; }
print eval { die { code => 7 } } // "died with $@->{code}", "\n";
print strftime("%Y-%m-%d", gmtime(0)), " ", sha256_hex("abc"), " ", encode_base64("text", ""), " ", thaw(freeze([1, { a => 2 }]))->[1]{a}, "\n";

# children
for my $code (0, 3) { my $pid = fork // die; exit $code unless $pid; waitpid $pid, 0; print "exit ", $? >> 8, "\n"; }
my $pid = fork; unless ($pid) { kill KILL => $$; sleep 10 } waitpid $pid, 0; print "signal ", $? & 127, "\n";
print `echo backquotes; exit 2`, $? >> 8, "\n";
system("sh", "-c", "exit 4"); print $? >> 8, "\n";
open my $from, "-|", "seq 5" or die; print map { $_ * 2, " " } <$from>; close $from; print "\n";
open my $to, "|-", "tr a-z A-Z" or die; print $to "to a child\n"; close $to;
$pid = open my $safe, "-|" // die; if (!$pid) { print "from a fork by open\n"; exit 5 } print <$safe>; close $safe; print $? >> 8, "\n";
pipe my $r, my $w; if (!fork) { close $r; print $w "line $_\n" for 1 .. 1000; exit } close $w; my @lines = <$r>; wait; print scalar @lines, " $lines[-1]";
my @pids = map { my $n = $_; my $p = fork; exit $n unless $p; $p } 1 .. 20; my $sum = 0; $sum += (waitpid($_, 0), $? >> 8)[1] for @pids; print "sum $sum\n";
{ no warnings; print exec("/nowhere/program") ? "" : "exec: $!\n" for 1; }
use IPC::Open3; my $p3 = open3(my $in, my $out, my $err = IO::Handle->new, "sh", "-c", "read x; echo out \$x; echo err >&2; exit 6"); print $in "word\n"; close $in; print <$out>, <$err>; waitpid $p3, 0; print $? >> 8, "\n";

# signals
my $got = ""; $SIG{USR1} = sub { $got .= "USR1 " }; kill USR1 => $$; kill USR1 => $$; print "got $got\n";
$SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 0.1; sleep 10 while 1; }; print "died of $@";
my $ticks = 0; $SIG{ALRM} = sub { $ticks++ }; setitimer(ITIMER_REAL, 0.02, 0.02); select undef, undef, undef, 0.01 while $ticks < 5; setitimer(ITIMER_REAL, 0); print "ticked\n";
$SIG{CHLD} = sub { local $!; 1 while waitpid(-1, WNOHANG) > 0; $got = "CHLD" }; $got = ""; fork || exit; select undef, undef, undef, 0.01 until $got; print "$got\n"; $SIG{CHLD} = "DEFAULT";
my $set = POSIX::SigSet->new(SIGUSR2); sigprocmask(SIG_BLOCK, $set); my $late = 0; $SIG{USR2} = sub { $late = 1 }; kill USR2 => $$; print "blocked $late "; sigprocmask(SIG_UNBLOCK, $set); print "then $late\n";
$SIG{__WARN__} = sub { print "warned: $_[0]" }; warn "careful\n"; local $SIG{PIPE} = sub { $got = "PIPE" }; pipe $r, $w; close $r; syswrite $w, "x"; print "$got $!\n";

# sockets
my $server = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1") or die; my $port = $server->sockport;
if (!($pid = fork)) { for (1 .. 3) { my $c = $server->accept; while (<$c>) { print $c scalar reverse; last if /end/ } close $c } exit 0 }
for my $n (1 .. 3) { my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $port) or die $!; print $s "client $n\n", "end\n"; $s->flush; local $/; print map { s/\n/ /gr } <$s>; print "\n" } waitpid $pid, 0; print $? >> 8, "\n";
my $unix = IO::Socket::UNIX->new(Local => "socket", Listen => 1) or die; if (!fork) { my $c = IO::Socket::UNIX->new(Peer => "socket"); print $c "over unix\n"; exit } print $unix->accept->getline; wait; unlink "socket";
socketpair(my $left, my $right, AF_UNIX, SOCK_DGRAM, PF_UNSPEC); send $left, "datagram", 0; recv $right, my $data, 100, 0; print "$data\n";
my $select = IO::Select->new($left); print scalar($select->can_read(0.01)), "\n"; send $right, "x", 0; print scalar(my @ready = $select->can_read(10)), "\n";
print inet_ntoa(inet_aton("127.0.0.1")), " ", getprotobyname("tcp") // 6, " ", (getpwuid(0))[0], "\n";

# files
my $dir = tempdir("XXXXXX", DIR => ".", CLEANUP => 1); for my $n (1 .. 5) { open my $f, ">", "$dir/f$n" or die; print $f "x" x $n; close $f } opendir my $d, $dir; print join(" ", sort grep { !/^\./ } readdir $d), "\n"; my $total = 0; find(sub { $total += -s if -f }, $dir); print "total $total\n";
open my $f, "+>", "$dir/rw"; print $f "0123456789"; seek $f, 4, SEEK_SET; read $f, $data, 3; print "$data ", tell $f; truncate $f, 5; print " ", -s $f, "\n"; flock $f, LOCK_EX; if (!fork) { open my $g, "<", "$dir/rw"; print flock($g, LOCK_EX | LOCK_NB) ? "locked twice\n" : "locked out\n"; exit } wait; close $f;
rename "$dir/rw", "$dir/moved"; symlink "moved", "$dir/link"; print readlink("$dir/link"), " ", (-l "$dir/link" ? 1 : 0), " ", -e "$dir/rw" ? 1 : 0, " ", sprintf("%o", (stat "$dir/moved")[2] & 07777), "\n"; chmod 0600, "$dir/moved"; utime 1, 2, "$dir/moved"; print join(" ", (stat _)[7], (stat "$dir/moved")[8, 9]), "\n"; mkfifo("$dir/fifo", 0600); if (!fork) { open my $g, ">", "$dir/fifo"; print $g "fifo\n"; exit } open $f, "<", "$dir/fifo"; print <$f>; wait; print glob("$dir/f[12]") =~ s/.*\///r, "\n"; print -t STDIN ? "terminal\n" : "no terminal\n"; print opendir(my $none, "/nowhere") ? "" : "$!\n"; print map { "$_\n" } sort { $a <=> $b } (10, 9, 2, 33); print "$0\n" =~ s/.*\///r;

# threads
my $shared : shared = 0; my @threads = map { threads->create(sub { for (1 .. 100) { lock $shared; $shared++ } return $_[0] * 2 }, $_) } 1 .. 4; print join(" ", map { $_->join } @threads), " $shared\n";
END { print "at the end\n" if $$ == $PID::main } BEGIN { $PID::main = $$ }
exit 9;
