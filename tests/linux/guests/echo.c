/* Prints its arguments, one on a line, and returns their count. */
#include <stdio.h>

int main(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        puts(argv[i]);
    return argc;
}
