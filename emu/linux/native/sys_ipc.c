/* System V shared memory, semaphores and messages; notification of POSIX message queues. */
#include <errno.h>
#include <mqueue.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#include "sigevent.h"
#include "syscall.h"

enum { IPC_64 = 0x100, PERM32 = 36 };
/* Commands of ipcs(1), which the C library hides. */
enum { OF_MESSAGES = 13, OF_SEGMENTS = 15, OF_SEMAPHORES = 20 }; /* MSG_STAT_ANY, SHM_STAT_ANY, SEM_STAT_ANY */

/* ---- layouts of 32-bit guests -------------------------------------------------------------------- */

/* asm-generic's ipc64_perm with longs of 32 bits and a mode of 16. */
static void put_perm32(uint8_t *to, const struct ipc_perm *perm)
{
    uint32_t ids[5] = {(uint32_t)perm->__key, perm->uid, perm->gid, perm->cuid, perm->cgid};
    uint16_t mode = (uint16_t)perm->mode, seq = perm->__seq;
    memset(to, 0, PERM32);
    memcpy(to, ids, sizeof ids);
    memcpy(to + 20, &mode, 2);
    memcpy(to + 24, &seq, 2);
}

static void get_perm32(const uint8_t *from, struct ipc_perm *perm)
{
    uint32_t ids[5];
    uint16_t mode;
    memcpy(ids, from, sizeof ids);
    memcpy(&mode, from + 20, 2);
    perm->uid = ids[1];
    perm->gid = ids[2];
    perm->mode = mode;
}

/* A time as its low and high words. */
static void put_time32(uint32_t *to, time_t time)
{
    to[0] = (uint32_t)time;
    to[1] = (uint32_t)((uint64_t)time >> 32);
}

/* ---- shared memory ---------------------------------------------------------------------------------- */

static struct attachment {
    uint64_t addr, size;
} *attachments;
static size_t attached, attachment_room;

static int remember(uint64_t addr, uint64_t size)
{
    if (attached == attachment_room) {
        size_t room = attachment_room ? 2 * attachment_room : 8;
        struct attachment *more = realloc(attachments, room * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        attachments = more;
        attachment_room = room;
    }
    attachments[attached++] = (struct attachment){addr, size};
    return 0;
}

void attachments_forget(void)
{
    attached = 0;
}

static int64_t attach(emu_thread *thread, const uint64_t *args)
{
    emu_umem *umem = umem_of(thread);
    struct shmid_ds ds;
    uint64_t addr = args[1], flags = args[2];
    uint64_t align = thread->process->abi->isa == EMU_ISA_ARM ? 4 * EMU_PAGE : EMU_PAGE;
    long result = HOST3(SYS_shmctl, args[0], IPC_STAT, &ds);
    if (result < 0)
        return result;
    uint64_t size = (ds.shm_segsz + EMU_PAGE - 1) & ~(EMU_PAGE - 1);
    if (addr & (align - 1)) {
        if (flags & SHM_RND)
            addr &= ~(align - 1);
        else if (addr & (EMU_PAGE - 1))
            return -EINVAL;
    }
    if (addr == 0 && flags & SHM_REMAP)
        return -EINVAL;
    if (addr && !inside(thread, addr, size))
        return -EINVAL;
    if (addr && !(flags & SHM_REMAP) && umem_occupied(umem, addr, addr + size))
        return -EINVAL;
    uint64_t place = addr ? addr : umem_place(umem, size, align);
    if (place == 0)
        return -ENOMEM;
    int status = remember(place, size);
    if (status)
        return status;
    result = HOST3(SYS_shmat, args[0], umem->base + place, (flags & ~(uint64_t)SHM_RND) | SHM_REMAP);
    if (result < 0 && result > -4096) {
        attached--;
        return result;
    }
    uint32_t prot = PROT_READ | (flags & SHM_RDONLY ? 0 : PROT_WRITE) | (flags & SHM_EXEC ? PROT_EXEC : 0);
    status = umem_enter(umem, place, size, prot, MAP_SHARED, NULL);
    return status ? status : (int64_t)place;
}

/* umem's lock keeps the attachments too. */
int64_t emu_sys_shmat(emu_thread *thread, const uint64_t *args)
{
    umem_lock(umem_of(thread));
    int64_t result = attach(thread, args);
    umem_unlock(umem_of(thread));
    return result;
}

static int64_t detach(emu_thread *thread, const uint64_t *args)
{
    for (size_t i = 0; i < attached; i++)
        if (attachments[i].addr == args[0]) {
            struct attachment gone = attachments[i];
            attachments[i] = attachments[--attached];
            return umem_unmap(umem_of(thread), gone.addr, gone.size);
        }
    return -EINVAL;
}

int64_t emu_sys_shmdt(emu_thread *thread, const uint64_t *args)
{
    umem_lock(umem_of(thread));
    int64_t result = detach(thread, args);
    umem_unlock(umem_of(thread));
    return result;
}

int64_t emu_sys_shmctl(emu_thread *thread, const uint64_t *args)
{
    enum { SIZE = 84 };
    int command = (int)args[1];
    uint8_t raw[SIZE] = {0};
    struct shmid_ds ds;
    if (!is_32(thread))
        return HOST3(SYS_shmctl, args[0], command, pointer(thread, args[2]));
    command &= ~IPC_64;
    switch (command) {
    case IPC_STAT:
    case SHM_STAT:
    case OF_SEGMENTS: {
        long result = HOST3(SYS_shmctl, args[0], command, &ds);
        if (result < 0)
            return result;
        uint32_t words[12] = {(uint32_t)ds.shm_segsz};
        put_perm32(raw, &ds.shm_perm);
        put_time32(words + 1, ds.shm_atime);
        put_time32(words + 3, ds.shm_dtime);
        put_time32(words + 5, ds.shm_ctime);
        words[7] = (uint32_t)ds.shm_cpid;
        words[8] = (uint32_t)ds.shm_lpid;
        words[9] = (uint32_t)ds.shm_nattch;
        memcpy(raw + PERM32, words, sizeof words);
        return put(thread, args[2], raw, sizeof raw) ? -EFAULT : result;
    }
    case IPC_SET:
        if (get(thread, raw, args[2], sizeof raw))
            return -EFAULT;
        memset(&ds, 0, sizeof ds);
        get_perm32(raw, &ds.shm_perm);
        return HOST3(SYS_shmctl, args[0], command, &ds);
    case IPC_RMID:
    case SHM_LOCK:
    case SHM_UNLOCK:
        return HOST3(SYS_shmctl, args[0], command, NULL);
    case IPC_INFO: { /* shminfo64: five longs and reserve */
        uint64_t wide[9] = {0};
        uint32_t words[9] = {0};
        long result = HOST3(SYS_shmctl, args[0], command, wide);
        for (unsigned i = 0; i < 5; i++)
            words[i] = wide[i] > INT32_MAX ? INT32_MAX : (uint32_t)wide[i];
        return result >= 0 && put(thread, args[2], words, sizeof words) ? -EFAULT : result;
    }
    case SHM_INFO: { /* an int, then five longs */
        uint64_t wide[6] = {0};
        uint32_t words[6];
        long result = HOST3(SYS_shmctl, args[0], command, wide);
        for (unsigned i = 0; i < 6; i++)
            words[i] = (uint32_t)wide[i];
        return result >= 0 && put(thread, args[2], words, sizeof words) ? -EFAULT : result;
    }
    default:
        return -EINVAL;
    }
}

/* ---- semaphores ---------------------------------------------------------------------------------------- */

/* asm-generic's semid64_ds has no padding between the times; x86-64's has. */
static int64_t put_semid(emu_thread *thread, uint64_t addr, const struct semid_ds *ds)
{
    uint8_t raw[104] = {0};
    if (thread->process->abi->isa == EMU_ISA_X86_64)
        return put(thread, addr, ds, sizeof *ds);
    if (is_32(thread)) {
        uint32_t words[7] = {0};
        put_perm32(raw, &ds->sem_perm);
        put_time32(words, ds->sem_otime);
        put_time32(words + 2, ds->sem_ctime);
        words[4] = (uint32_t)ds->sem_nsems;
        memcpy(raw + PERM32, words, sizeof words);
        return put(thread, addr, raw, PERM32 + sizeof words);
    }
    uint64_t words[5] = {(uint64_t)ds->sem_otime, (uint64_t)ds->sem_ctime, ds->sem_nsems};
    memcpy(raw, &ds->sem_perm, sizeof ds->sem_perm);
    memcpy(raw + sizeof ds->sem_perm, words, sizeof words);
    return put(thread, addr, raw, sizeof ds->sem_perm + sizeof words);
}

int64_t emu_sys_semctl(emu_thread *thread, const uint64_t *args)
{
    int command = (int)args[2];
    uint8_t raw[PERM32];
    struct semid_ds ds;
    if (is_32(thread))
        command &= ~IPC_64;
    switch (command) {
    case SETVAL:
        return HOST4(SYS_semctl, args[0], args[1], command, (int)args[3]);
    case GETALL:
    case SETALL:
        return HOST4(SYS_semctl, args[0], args[1], command, umem_address(umem_of(thread), args[3]));
    case IPC_STAT:
    case SEM_STAT:
    case OF_SEMAPHORES: {
        long result = HOST4(SYS_semctl, args[0], args[1], command, &ds);
        if (result < 0)
            return result;
        return put_semid(thread, args[3], &ds) ? -EFAULT : result;
    }
    case IPC_SET:
        memset(&ds, 0, sizeof ds);
        if (is_32(thread)) {
            if (get(thread, raw, args[3], sizeof raw))
                return -EFAULT;
            get_perm32(raw, &ds.sem_perm);
        } else if (get(thread, &ds.sem_perm, args[3], sizeof ds.sem_perm)) {
            return -EFAULT;
        }
        return HOST4(SYS_semctl, args[0], args[1], command, &ds);
    default:
        return HOST4(SYS_semctl, args[0], args[1], command, pointer(thread, args[3]));
    }
}

/* ---- messages --------------------------------------------------------------------------------------------- */

enum { MESSAGE_MAX = 1 << 24 }; /* more than any msgmax in use; the kernel has the last word */

int64_t emu_sys_msgsnd(emu_thread *thread, const uint64_t *args)
{
    uint64_t size = args[2];
    int32_t type;
    if (!is_32(thread)) {
        if ((int64_t)size >= 0 && !inside(thread, args[1], 8))
            return -EFAULT;
        if ((int64_t)size >= 0 && size <= MESSAGE_MAX && !inside(thread, args[1], 8 + size))
            return -EFAULT;
        return WAIT4(thread, SYS_msgsnd, args[0], pointer(thread, args[1]), size, args[3]);
    }
    if (size > MESSAGE_MAX)
        return -EINVAL;
    long *message = malloc(sizeof *message + size);
    if (message == NULL)
        return -ENOMEM;
    int64_t result = -EFAULT;
    if (!get(thread, &type, args[1], 4) && !get(thread, message + 1, args[1] + 4, size)) {
        *message = type;
        result = WAIT4(thread, SYS_msgsnd, args[0], message, size, args[3]);
    }
    free(message);
    return result;
}

int64_t emu_sys_msgrcv(emu_thread *thread, const uint64_t *args)
{
    uint64_t size = args[2];
    if (!is_32(thread)) {
        if ((int64_t)size >= 0 && !inside(thread, args[1], 8 + size))
            return -EFAULT;
        return WAIT5(thread, SYS_msgrcv, args[0], pointer(thread, args[1]), size, args[3], args[4]);
    }
    if ((int32_t)size < 0)
        return -EINVAL;
    if (size > MESSAGE_MAX)
        size = MESSAGE_MAX;
    long *message = malloc(sizeof *message + size);
    if (message == NULL)
        return -ENOMEM;
    int64_t result = WAIT5(thread, SYS_msgrcv, args[0], message, size, args[3], args[4]);
    if (result >= 0 &&
        (put_u32(thread, args[1], (uint32_t)*message) || put(thread, args[1] + 4, message + 1, (size_t)result)))
        result = -EFAULT;
    free(message);
    return result;
}

int64_t emu_sys_msgctl(emu_thread *thread, const uint64_t *args)
{
    enum { SIZE = 88 };
    int command = (int)args[1];
    uint8_t raw[SIZE] = {0};
    struct msqid_ds ds;
    if (!is_32(thread))
        return HOST3(SYS_msgctl, args[0], command, pointer(thread, args[2]));
    command &= ~IPC_64;
    switch (command) {
    case IPC_STAT:
    case MSG_STAT:
    case OF_MESSAGES: {
        long result = HOST3(SYS_msgctl, args[0], command, &ds);
        if (result < 0)
            return result;
        uint32_t words[13] = {0};
        put_perm32(raw, &ds.msg_perm);
        put_time32(words, ds.msg_stime);
        put_time32(words + 2, ds.msg_rtime);
        put_time32(words + 4, ds.msg_ctime);
        words[6] = (uint32_t)ds.__msg_cbytes;
        words[7] = (uint32_t)ds.msg_qnum;
        words[8] = (uint32_t)ds.msg_qbytes;
        words[9] = (uint32_t)ds.msg_lspid;
        words[10] = (uint32_t)ds.msg_lrpid;
        memcpy(raw + PERM32, words, sizeof words);
        return put(thread, args[2], raw, sizeof raw) ? -EFAULT : result;
    }
    case IPC_SET: {
        uint32_t bytes;
        if (get(thread, raw, args[2], sizeof raw))
            return -EFAULT;
        memset(&ds, 0, sizeof ds);
        get_perm32(raw, &ds.msg_perm);
        memcpy(&bytes, raw + PERM32 + 32, 4);
        ds.msg_qbytes = bytes;
        return HOST3(SYS_msgctl, args[0], command, &ds);
    }
    case IPC_RMID:
        return HOST3(SYS_msgctl, args[0], command, NULL);
    case IPC_INFO:
    case MSG_INFO: /* of ints */
        return HOST3(SYS_msgctl, args[0], command, umem_address(umem_of(thread), args[2]));
    default:
        return -EINVAL;
    }
}

int64_t emu_sys_mq_notify(emu_thread *thread, const uint64_t *args)
{
    enum { COOKIE = 32 }; /* NOTIFY_COOKIE_LEN: what SIGEV_THREAD's value points at */
    struct sigevent event;
    if (args[1] == 0)
        return HOST2(SYS_mq_notify, args[0], NULL);
    if (sigevent_get(thread, args[1], &event))
        return -EFAULT;
    if (event.sigev_notify == SIGEV_THREAD) {
        uint64_t cookie = (uintptr_t)event.sigev_value.sival_ptr;
        if (!inside(thread, cookie, COOKIE))
            return -EFAULT;
        event.sigev_value.sival_ptr = pointer(thread, cookie);
    }
    return HOST2(SYS_mq_notify, args[0], &event);
}
