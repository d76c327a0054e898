/*
 * The plain C loop that bench_syscall.py compares with: a guest at CPL3 that makes
 * one system call after another, and KVM_RUN with the cheapest answer.
 *
 * SYSCALL enters CPL0, where a stub waits with HLT; on hosts where it stays at
 * CPL3 it meets a page that the host does not back, and KVM_RUN fails with EFAULT.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, ROOT = 1, UPPER, MIDDLE, LOW, CODE, STUB, NOWHERE, PAGES };
enum { PRESENT = 1, WRITE = 2, USER = 4, USED = 0x60 };

struct twin {
    int vcpu, stays;
    struct kvm_run *run;
};

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct kvm_segment segment(unsigned selector, unsigned type, int code)
{
    struct kvm_segment s = {.limit = 0xffffffff, .selector = (uint16_t)selector, .type = (uint8_t)type,
                            .present = 1, .dpl = 3, .s = 1, .l = (uint8_t)code, .db = (uint8_t)!code, .g = 1};
    return s;
}

static void close_all(struct twin *t, int device, int vm)
{
    if (t->vcpu >= 0)
        close(t->vcpu);
    close(vm);
    close(device);
    free(t);
}

/* NULL when something fails; stays: SYSCALL stays at CPL3. */
static struct twin *open_one(int stays)
{
    struct twin *t = calloc(1, sizeof *t);
    int device = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = ioctl(device, KVM_CREATE_VM, 0);
    t->stays = stays;
    uint8_t *ram = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* page numbers are the same in both address spaces */
    *(uint64_t *)(ram + ROOT * PAGE) = UPPER * PAGE | PRESENT | WRITE | USER | USED;
    *(uint64_t *)(ram + UPPER * PAGE) = MIDDLE * PAGE | PRESENT | WRITE | USER | USED;
    *(uint64_t *)(ram + MIDDLE * PAGE) = LOW * PAGE | PRESENT | WRITE | USER | USED;
    uint64_t *pages = (uint64_t *)(ram + LOW * PAGE);
    pages[CODE] = CODE * PAGE | PRESENT | USER | USED;
    pages[STUB] = STUB * PAGE | PRESENT | USED;
    pages[NOWHERE] = NOWHERE * PAGE | PRESENT | USER | USED;
    memcpy(ram + CODE * PAGE, "\x0f\x05\xeb\xfc", 4);  /* syscall; jmp back */
    memcpy(ram + STUB * PAGE, "\xf4\x48\x0f\x07", 4); /* hlt; sysretq */
    mprotect(ram + NOWHERE * PAGE, PAGE, PROT_NONE);
    struct kvm_userspace_memory_region slot = {.memory_size = PAGES * PAGE, .userspace_addr = (uintptr_t)ram};
    t->vcpu = -1;
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
        goto failed;
    t->vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    int length = ioctl(device, KVM_GET_VCPU_MMAP_SIZE, 0);
    t->run = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_SHARED, t->vcpu, 0);
    if (t->run == MAP_FAILED)
        goto failed;
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[256];
    } cpuid = {.head.nent = 256};
    struct kvm_sregs sregs;
    if (ioctl(device, KVM_GET_SUPPORTED_CPUID, &cpuid.head) < 0 ||
        ioctl(t->vcpu, KVM_SET_CPUID2, &cpuid.head) < 0 || ioctl(t->vcpu, KVM_GET_SREGS, &sregs) < 0)
        goto failed;
    sregs.cs = segment(0x33, 11, 1);
    sregs.ss = sregs.ds = sregs.es = sregs.fs = sregs.gs = segment(0x2b, 3, 0);
    sregs.cr0 = 0x80050033;
    sregs.cr3 = ROOT * PAGE;
    sregs.cr4 = 0x620;
    sregs.efer = 0xd01;
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entries[3];
    } msrs = {.head.nmsrs = 3};
    msrs.entries[0] = (struct kvm_msr_entry){.index = 0xc0000081, .data = UINT64_C(0x23) << 48 | UINT64_C(0x10) << 32};
    msrs.entries[1] = (struct kvm_msr_entry){.index = 0xc0000082, .data = (stays ? NOWHERE : STUB) * PAGE};
    msrs.entries[2] = (struct kvm_msr_entry){.index = 0xc0000084, .data = stays ? 0 : 0x200};
    struct kvm_regs regs = {.rip = CODE * PAGE, .rflags = 0x202};
    if (ioctl(t->vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(t->vcpu, KVM_SET_MSRS, &msrs) < 0 ||
        ioctl(t->vcpu, KVM_SET_REGS, &regs) < 0)
        goto failed;
    t->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    return t;
failed:
    close_all(t, device, vm);
    return NULL;
}

/* Runs for so many calls; ns taken, or 0 when anything else came. */
uint64_t twin_run(struct twin *t, uint64_t calls)
{
    struct kvm_regs *regs = &t->run->s.regs.regs;
    uint64_t start = now();
    while (calls-- != 0) {
        int failed = ioctl(t->vcpu, KVM_RUN, 0) < 0 ? errno : 0;
        if (failed == EINTR) {
            calls++;
            continue;
        }
        if (t->stays ? failed != EFAULT || regs->rip != NOWHERE * PAGE
                     : failed != 0 || t->run->exit_reason != KVM_EXIT_HLT || regs->rip != STUB * PAGE + 1)
            return 0;
        if (t->stays) {
            regs->rip = regs->rcx;
            regs->rflags = regs->r11;
        }
        regs->rax = 0;
        t->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
    }
    return now() - start;
}

/* A guest whose calls arrive here; NULL: there is none. */
struct twin *twin_open(void)
{
    for (int stays = 0; stays < 2; stays++) {
        struct twin *t = open_one(stays);
        if (t != NULL && twin_run(t, 2) != 0)
            return t;
    }
    return NULL;
}
