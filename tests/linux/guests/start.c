/* What a program finds when it starts: arguments, environment, auxiliary vector.  Addresses are checked, not shown. */
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

extern char **environ;
extern char _start[];
extern char __ehdr_start[];

#if UINTPTR_MAX > UINT32_MAX
typedef Elf64_Ehdr header;
typedef Elf64_Phdr program_header;
#else
typedef Elf32_Ehdr header;
typedef Elf32_Phdr program_header;
#endif

int main(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        printf("argument %s\n", argv[i]);
    for (char **p = environ; *p != NULL; p++)
        printf("variable %s\n", *p);
    printf("%d words, then %s\n", argc, argv[argc] == NULL ? "NULL" : "more");
    printf("aligned %d\n", (int)((uintptr_t)(argv - 1) % 16));
    printf("strings in order %d\n", argc < 2 || argv[1] == argv[0] + strlen(argv[0]) + 1);
    const header *ehdr = (const header *)__ehdr_start;
    printf("entry %d\n", getauxval(AT_ENTRY) == (uintptr_t)_start);
    printf("headers %d %d %d\n", getauxval(AT_PHDR) == (uintptr_t)__ehdr_start + ehdr->e_phoff,
           getauxval(AT_PHNUM) == ehdr->e_phnum, getauxval(AT_PHENT) == sizeof(program_header));
    printf("page %lu, clock %lu, secure %lu, flags %lu\n", getauxval(AT_PAGESZ), getauxval(AT_CLKTCK), getauxval(AT_SECURE),
           getauxval(AT_FLAGS));
    printf("ids %d %d %d %d\n", getauxval(AT_UID) == getuid(), getauxval(AT_EUID) == geteuid(), getauxval(AT_GID) == getgid(),
           getauxval(AT_EGID) == getegid());
    const uint8_t *random = (const uint8_t *)getauxval(AT_RANDOM);
    int sum = 0;
    for (int i = 0; i < 16; i++)
        sum |= random[i];
    printf("random %d\n", sum != 0);
    printf("file %s\n", (const char *)getauxval(AT_EXECFN));
    printf("base %d\n", getauxval(AT_BASE) == 0);
    char link[4096];
    ssize_t length = readlink("/proc/self/exe", link, sizeof link - 1);
    link[length < 0 ? 0 : length] = 0;
    printf("self %s\n", link);
    FILE *self = fopen("/proc/self/exe", "rb");
    char magic[4] = "";
    if (self == NULL || fread(magic, 1, 4, self) != 4)
        return 1;
    printf("magic %d\n", memcmp(magic, "\177ELF", 4) == 0);
    return 0;
}
