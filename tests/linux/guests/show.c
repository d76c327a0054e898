/* Prints files: what a path leads to. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char line[200] = "";
        FILE *file = fopen(argv[i], "r");
        if (file == NULL) {
            printf("%s\n", strerror(errno));
            continue;
        }
        if (fgets(line, sizeof line, file) == NULL)
            strcpy(line, "(empty)\n");
        fputs(line, stdout);
        fclose(file);
    }
    return 0;
}
