/* Many threads fork at once, while others go on; each child does what it has not done before. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 12, ROUNDS = 4 };

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void *forks(void *argument)
{
    long ended = 0;
    for (int i = 0; i < ROUNDS; i++) {
        munmap(mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 65536);
        pid_t child = fork();
        if (child == 0) {
            int numbers[] = {3, 1, 2};
            qsort(numbers, 3, sizeof *numbers, by_number);
            _exit(numbers[0] == 1 && strtod("1.5", NULL) == 1.5 ? 7 : 1);
        }
        int status = 0;
        ended += waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7;
    }
    return (void *)ended;
}

int main(void)
{
    pthread_t threads[THREADS];
    long ended = 0;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, forks, NULL);
    for (int i = 0; i < THREADS; i++) {
        void *mine;
        pthread_join(threads[i], &mine);
        ended += (long)mine;
    }
    printf("%ld children\n", ended);
    return 0;
}
