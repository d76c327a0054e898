#!/bin/sh
# Every verb of virsh's on one aarch64 guest, each shown with what it says: what a person would type, in order.
#
#   sudo -E sh examples/libvirt_tour.sh
#
# It needs libvirtd, its clients and qemu-img (docs/libvirt.md), and `emu images fetch busybox-arm64`: Debian's
# kernel, and busybox.  LIBVIRT_DEFAULT_URI says which libvirtd, RESTART how that one is restarted (default:
# systemctl restart libvirtd), EMULATOR and GUEST where emu-system-aarch64 and the guest are.
set -eu

name=emu-tour
emulator=${EMULATOR:-$(command -v emu-system-aarch64)}
guest=${GUEST:-${XDG_CACHE_HOME:-$HOME/.cache}/emu/images/busybox-arm64}
folder=$(mktemp -d)
screen=$folder/screen
reader=
export LIBVIRT_DEFAULT_URI="${LIBVIRT_DEFAULT_URI:-qemu:///system}"

finish() {
    leave
    virsh destroy $name > /dev/null 2>&1 || true
    virsh undefine $name > /dev/null 2>&1 || true
    rm -rf "$folder"
}
trap finish EXIT

title() { printf '\n== %s\n' "$*"; }

v() {
    printf '$ virsh %s\n' "$*"
    virsh -q "$@"
}

# The guest's serial line, as `virsh console` opens it: what comes is kept, and lines are typed.
enter() {
    leave
    tty=$(virsh -q ttyconsole $name)
    : > "$screen"
    cat < "$tty" >> "$screen" 2> /dev/null &
    reader=$!
}

leave() {
    if [ "$reader" ]; then
        kill "$reader" 2> /dev/null || true
        wait "$reader" 2> /dev/null || true
    fi
    reader=
}

# Waits until the guest has printed a word, or until a command succeeds.
printed() { until_so grep -aq "$1" "$screen"; }
until_so() {
    patience=600
    until "$@" > /dev/null 2>&1; do
        patience=$((patience - 1))
        [ $patience -gt 0 ] || { echo "nothing came of: $*" >&2; exit 1; }
        sleep 0.2
    done
}

# Types a command into the guest's shell and shows what it prints.
in_guest() {
    printf '(guest) # %s\n' "$1"
    : > "$screen"
    printf '%s; echo do""ne\r' "$1" > "$tty"
    printed '^done'
    until_so prompted
    tr -d '\r' < "$screen" | sed -n '2,/^done/p' | grep -av -e '^done' -e '""ne' -e '^root@emu' || true
}
prompted() { tail -n 1 "$screen" | grep -aq 'root@emu.*# '; }

state() { virsh -q domstate $name | grep -q "$1"; }
told() { virsh -q dommemstat $name | sed -n "s/^$1 //p"; }
balloon_is() { [ "$(told actual)" = "$1" ]; }
fresh() { [ "$(told last_update)" -gt "$1" ]; }

statistics() {
    now=$(told last_update)
    until_so fresh $((now + 1))
    v dommemstat $name
}

title "A domain"
qemu-img create -q -f qcow2 "$folder/disk.qcow2" 64M
chmod a+rx "$folder"
cat > "$folder/domain.xml" << XML
<domain type='qemu'>
  <name>$name</name><memory unit='MiB'>512</memory><vcpu>1</vcpu>
  <os><type arch='aarch64' machine='virt'>hvm</type>
    <kernel>$guest/kernel</kernel><initrd>$guest/initrd</initrd><cmdline>console=ttyAMA0 quiet</cmdline></os>
  <cpu mode='custom' match='exact'><model fallback='allow'>cortex-a57</model></cpu>
  <devices><emulator>$emulator</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='$folder/disk.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <controller type='usb' model='none'/>
    <interface type='user'><model type='virtio'/></interface>
    <serial type='pty'/><console type='pty'/>
    <memballoon model='virtio'><stats period='1'/></memballoon>
  </devices></domain>
XML
v define "$folder/domain.xml"
v start $name
enter
printed 'root@emu'
v domstate $name --reason
v dominfo $name
v vcpuinfo $name
printf '$ virsh console %s\n' $name
in_guest "uname -m; ip -4 -o address show eth0 | awk '{print \$4}'"

title "Memory: 100 MiB more in the guest"
until_so fresh 0
statistics
in_guest 'head -c 100m /dev/zero > /tmp/x; wc -c /tmp/x'
statistics

title "Memory: down to 320 MiB and up again, as the guest sees it, and the host (rss)"
in_guest 'rm /tmp/x; grep MemTotal /proc/meminfo'
v setmem $name 320M --live
until_so balloon_is 327680
in_guest 'grep MemTotal /proc/meminfo'
statistics | grep -e virsh -e actual -e available -e rss
v setmem $name 512M --live
until_so balloon_is 524288
in_guest 'grep MemTotal /proc/meminfo'
statistics | grep -e virsh -e actual -e available -e rss

title "The disk"
in_guest 'dd if=/dev/urandom of=/dev/vda bs=64k count=80 conv=fsync 2> /dev/null; wc -c /dev/vda'
v domblkstat $name vda
v domblkinfo $name vda

title "Held and let go"
v suspend $name
v domstate $name --reason
v qemu-monitor-command $name --pretty '{"execute":"query-status"}'
v resume $name
v domstate $name --reason
v qemu-monitor-command $name --hmp 'info status'

title "A new libvirtd finds what runs"
v autostart $name
leave
printf '$ %s\n' "${RESTART:=systemctl restart libvirtd}"
sh -c "$RESTART"
until_so virsh -q uri
v list --autostart
v domstate $name --reason
enter

title "Into a file and back: the shell knows what it knew"
# shellcheck disable=SC2016  # the guest's shell is to expand them
in_guest 'kept=$((6 * 7000))'
leave
v save $name "$folder/saved"
v domstate $name --reason
v restore "$folder/saved"
v domstate $name --reason
enter
# shellcheck disable=SC2016
in_guest 'echo kept $kept'
v dump $name "$folder/core" --memory-only --live
if command -v readelf > /dev/null; then
    readelf -hW "$folder/core" | grep -e Type -e Machine
fi

title "Reset, reboot and the end"
: > "$screen"
v reset $name
printed 'root@emu'
in_guest 'sleep 3' # until acpid hears the power button
: > "$screen"
v reboot $name
printed 'Power down'
printed 'root@emu'
in_guest 'sleep 3' # until acpid hears the power button
v shutdown $name
until_so state 'shut off'
v domstate $name --reason
leave
v start $name
v destroy $name
v domstate $name --reason
v undefine $name
echo
echo "all is said"
