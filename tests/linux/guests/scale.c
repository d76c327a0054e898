/* scale WORDS...: prints the sum of scale(n, 10) for n up to COUNT, by so many threads, each; what is done last. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int count;
static int text(const char *words);

__attribute__((noinline)) int scale(int value, int factor)
{
    __asm__ volatile("");
    return value * factor;
}

static void *run(void *sum)
{
    for (int n = 1; n <= count; n++)
        *(int *)sum += scale(n, 10);
    return NULL;
}

__attribute__((noinline)) int text(const char *words)
{
    __asm__ volatile("" ::: "memory");
    return (int)strlen(words);
}

int main(int argc, char **argv)
{
    int threads = argc > 2 ? atoi(argv[2]) : 1, sums[64] = {0}, sum = 0;
    pthread_t each[64];
    count = argc > 1 ? atoi(argv[1]) : 3;
    for (int n = 0; n < threads; n++)
        pthread_create(&each[n], NULL, run, &sums[n]);
    for (int n = 0; n < threads; n++) {
        pthread_join(each[n], NULL);
        sum += sums[n];
    }
    printf("%d %d\n", sum, text("twelve bytes"));
    fflush(stdout);
    if (argc > 3 && strcmp(argv[3], "fork") == 0) {
        if (fork() == 0) {
            printf("child %d\n", scale(4, 5));
            fflush(stdout);
            _exit(0);
        }
        wait(NULL);
    }
    if (argc > 3 && strcmp(argv[3], "exec") == 0)
        execl("/proc/self/exe", "scale", "2", NULL);
    return 0;
}
