/* Lists directories: "name entries...", sorted. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct dirent **entries;
        int count = scandir(argv[i], &entries, shown, alphasort);
        printf("%s", count < 0 ? strerror(errno) : argv[i]);
        for (int j = 0; j < count; j++)
            printf(" %s", entries[j]->d_name);
        puts("");
    }
    return 0;
}
