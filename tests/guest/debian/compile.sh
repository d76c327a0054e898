#!/bin/sh
# gcc-12 and g++-12 compile, link and run; binutils look at what came out.
exec 2>&1
cat >hello.c <<'END'
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
static void *work(void *n) { return (void *)((long)n * (long)n); }
static void caught(int sig) { printf("signal %d\n", sig); }
__thread int local = 3;

int main(int argc, char **argv)
{
    int numbers[1000];
    unsigned seed = 1;
    for (int i = 0; i < 1000; i++)
        numbers[i] = (seed = seed * 1103515245 + 12345) >> 16 & 0x7fff;
    qsort(numbers, 1000, sizeof *numbers, compare);
    printf("%d %d %d\n", numbers[0], numbers[500], numbers[999]);
    pthread_t threads[4];
    long sum = 0;
    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    signal(SIGUSR1, caught);
    raise(SIGUSR1);
    printf("%ld %.6f %s %d %d\n", sum, sin(1) + pow(2, 0.5), argc > 1 ? argv[1] : "", local, (int)strlen(argv[0]) > 0);
    return 5;
}
END
for flags in -O0 -O2 '-O3 -funroll-loops' '-Os -static' '-O2 -fPIE -pie -g' '-O1 -fsanitize=undefined'; do
    gcc-12 -Wall $flags -o hello hello.c -lm -lpthread && ./hello "$flags"; echo "status $?"
done
cat >hello.cc <<'END'
#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct Shape { virtual ~Shape() = default; virtual double area() const = 0; };
struct Square : Shape { double a; explicit Square(double a) : a(a) {} double area() const override { return a * a; } };
struct Circle : Shape { double r; explicit Circle(double r) : r(r) {} double area() const override { return 3.14159 * r * r; } };
template <typename T> T throws(T n) { if (n > 2) throw std::runtime_error("thrown at " + std::to_string(n)); return throws(n + 1); }

int main()
{
    std::vector<std::unique_ptr<Shape>> shapes;
    shapes.push_back(std::make_unique<Square>(2));
    shapes.push_back(std::make_unique<Circle>(1));
    double area = 0;
    for (const auto &shape : shapes) area += shape->area();
    std::cout << area << '\n';
    try { throws(0); } catch (const std::exception &error) { std::cout << error.what() << '\n'; }
    std::map<std::string, int> words;
    std::string text = "a b a c b a";
    for (std::sregex_iterator i(text.begin(), text.end(), std::regex("\\w")), end; i != end; ++i) words[i->str()]++;
    for (const auto &[word, count] : words) std::cout << word << count << ' ';
    std::atomic<int> total{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++) threads.emplace_back([&] { for (int j = 0; j < 10000; j++) total++; });
    for (auto &thread : threads) thread.join();
    auto future = std::async(std::launch::async, [] { std::vector<int> v(1000); std::iota(v.begin(), v.end(), 1); return std::accumulate(v.begin(), v.end(), 0); });
    std::cout << total << ' ' << future.get() << '\n';
    return dynamic_cast<Circle *>(shapes[0].get()) == nullptr ? 6 : 1;
}
END
g++-12 -O1 -std=c++20 -o hello hello.cc -pthread && ./hello; echo "status $?"
printf 'int twice(int n) { return n * 2; }\n' >part.c; printf 'int twice(int); int main(void) { return twice(21); }\n' >main.c
gcc-12 -c part.c main.c && ar rcs libpart.a part.o && gcc-12 -o whole main.o -L. -lpart && ./whole; echo $?
gcc-12 -shared -fPIC -o libpart.so part.c && gcc-12 -o whole main.o -L. -lpart -Wl,-rpath,"$PWD" && ./whole; echo $?; LD_LIBRARY_PATH=. LD_BIND_NOW=1 ./whole; echo $?
nm part.o; objdump -f whole | grep -c "file format"; readelf -h whole | grep -c Class; size part.o | wc -l; strip whole && ./whole; echo $?; strings -n 6 libpart.so | grep -c part; objcopy -O binary -j .text part.o raw && [ -s raw ] && echo copied; c++filt _ZN3foo3barEi; as --version | head -n 1 | cut -d' ' -f1-2; ld --version | head -n 1 | cut -d' ' -f1-2
gcc-12 -E -P - <<'END'
#define SQUARE(x) ((x) * (x))
SQUARE(7)
END
printf 'int main(void) { return x; }\n' | gcc-12 -xc - -o none; echo $?
printf 'int main(void) { int *p = 0; return *p; }\n' | gcc-12 -O0 -xc - -o crash && { ./crash; } 2>/dev/null; echo $?
gcc-12 -flto -O2 -o lto part.c main.c && ./lto; echo $?
rm -f hello* part* main* lib* whole raw crash lto
