/*
 * The plain C loop that bench_kvm.py compares with: KVM_RUN, and a switch
 * that answers a port or a word of memory from one variable.  No map, no kick.
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

struct twin {
    int device, vm, vcpu;
    struct kvm_run *run;
    uint8_t *ram;
    uint32_t word;
};

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A guest in flat 32-bit mode at 0x8000 with 1 MiB of RAM; NULL when something fails. */
struct twin *twin_open(const uint8_t *code, size_t size)
{
    struct twin *t = calloc(1, sizeof *t);
    t->device = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    t->vm = ioctl(t->device, KVM_CREATE_VM, 0);
    t->ram = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memcpy(t->ram + 0x8000, code, size);
    struct kvm_userspace_memory_region slot = {.memory_size = 1 << 20, .userspace_addr = (uintptr_t)t->ram};
    if (ioctl(t->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
        return NULL;
    ioctl(t->vm, KVM_SET_TSS_ADDR, 0xfffbd000);
    t->vcpu = ioctl(t->vm, KVM_CREATE_VCPU, 0);
    int length = ioctl(t->device, KVM_GET_VCPU_MMAP_SIZE, 0);
    t->run = mmap(NULL, (size_t)length, PROT_READ | PROT_WRITE, MAP_SHARED, t->vcpu, 0);
    if (t->run == MAP_FAILED)
        return NULL;
    struct kvm_sregs sregs;
    ioctl(t->vcpu, KVM_GET_SREGS, &sregs);
    struct kvm_segment text = {
        .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
    struct kvm_segment data = text;
    data.selector = 16;
    data.type = 3;
    sregs.cs = text;
    sregs.ds = sregs.es = sregs.ss = data;
    sregs.cr0 = 0x11;
    struct kvm_regs regs = {.rip = 0x8000, .rflags = 2, .rdx = 0x500, .rbx = 0xd0000000};
    if (ioctl(t->vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(t->vcpu, KVM_SET_REGS, &regs) < 0)
        return NULL;
    return t;
}

/* Runs for so many exits; ns taken, or 0 when an unknown exit came. */
uint64_t twin_run(struct twin *t, uint64_t exits)
{
    uint64_t start = now();
    while (exits-- != 0) {
        if (ioctl(t->vcpu, KVM_RUN, 0) < 0 && errno != EINTR)
            return 0;
        switch (t->run->exit_reason) {
        case KVM_EXIT_IO: {
            uint8_t *data = (uint8_t *)t->run + t->run->io.data_offset;
            if (t->run->io.port != 0x500)
                return 0;
            if (t->run->io.direction == KVM_EXIT_IO_OUT)
                memcpy(&t->word, data, t->run->io.size);
            else
                memcpy(data, &t->word, t->run->io.size);
            break;
        }
        case KVM_EXIT_MMIO:
            if (t->run->mmio.phys_addr != 0xd0000000)
                return 0;
            if (t->run->mmio.is_write)
                memcpy(&t->word, t->run->mmio.data, 4);
            else
                memcpy(t->run->mmio.data, &t->word, 4);
            break;
        default:
            return 0;
        }
    }
    return now() - start;
}
