/* Every number that the C library's headers have, with arguments that a refused call does not look at. */
#include <sys/syscall.h>
#include <unistd.h>

#define TRY(name) syscall(SYS_##name, -1L, 0L, 0L, 0L, 0L, 0L)

int main(void)
{
    TRY(acct);
    TRY(add_key);
    TRY(bpf);
    TRY(delete_module);
    TRY(fanotify_init);
    TRY(finit_module);
    TRY(fsopen);
    TRY(get_mempolicy);
    TRY(init_module);
    TRY(io_cancel);
    TRY(io_destroy);
    TRY(io_setup);
    TRY(io_submit);
    TRY(io_uring_enter);
    TRY(io_uring_register);
    TRY(io_uring_setup);
    TRY(kcmp);
    TRY(kexec_load);
    TRY(keyctl);
    TRY(mbind);
    TRY(migrate_pages);
    TRY(move_pages);
    TRY(perf_event_open);
    TRY(pkey_alloc);
    TRY(pkey_free);
    TRY(pkey_mprotect);
    TRY(process_madvise);
    TRY(ptrace);
    TRY(remap_file_pages);
    TRY(rseq);
    TRY(set_mempolicy);
    TRY(userfaultfd);
    return 0;
}
