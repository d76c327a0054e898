#!/usr/bin/python3
"""Python's threads: locks, queues, pools, events, timers, and what a process does with them."""

import concurrent.futures
import os
import queue
import signal
import sys
import threading
import time

lock, total = threading.Lock(), 0


def add(count):
    global total
    for _ in range(count):
        with lock:
            total += 1


threads = [threading.Thread(target=add, args=(2000,)) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("sum", total)

jobs, done = queue.Queue(maxsize=4), queue.Queue()


def work():
    while (job := jobs.get()) is not None:
        done.put(job * job)
    done.put(None)


workers = [threading.Thread(target=work) for _ in range(4)]
for worker in workers:
    worker.start()
for n in range(200):
    jobs.put(n)
for _ in workers:
    jobs.put(None)
results, ended = [], 0
while ended < len(workers):
    item = done.get(timeout=60)
    if item is None:
        ended += 1
    else:
        results.append(item)
print("queue", sum(results), len(results))

barrier, order, condition = threading.Barrier(5), [], threading.Condition()


def meet(n):
    barrier.wait(60)
    with condition:
        condition.wait_for(lambda: len(order) == n, 60)
        order.append(n)
        condition.notify_all()


threads = [threading.Thread(target=meet, args=(n,)) for n in reversed(range(5))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("order", order)

event = threading.Event()
timer = threading.Timer(0.05, event.set)
timer.start()
print("event", event.wait(60))
print("not set", threading.Event().wait(0.05))
semaphore = threading.BoundedSemaphore(2)
print("semaphore", semaphore.acquire(), semaphore.acquire(), semaphore.acquire(timeout=0.05))
local = threading.local()
local.x = "main"
threading.Thread(target=lambda: print("local", hasattr(local, "x"))).start()
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join()
with concurrent.futures.ThreadPoolExecutor(6) as pool:
    print("pool", sum(pool.map(lambda n: sum(range(n)), range(100))))
with concurrent.futures.ProcessPoolExecutor(2) as pool:
    print("processes", list(pool.map(abs, [-3, 2, -1])))

reader, writer = os.pipe()
received = []
thread = threading.Thread(target=lambda: received.append(os.read(reader, 100)))
thread.start()
time.sleep(0.05)
os.write(writer, b"to a thread that waits")
thread.join()
print(received)

caught = []
signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(threading.current_thread().name))
thread = threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGUSR1))
thread.start()
thread.join()
while not caught:
    time.sleep(0.01)
print("signal in", caught)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
thread = threading.Thread(target=lambda: print("sigwait", signal.sigwait([signal.SIGUSR2])))
thread.start()
signal.pthread_kill(thread.ident, signal.SIGUSR2)
thread.join()

pid = os.fork()
if pid == 0:
    print("threads in the child", threading.active_count(), flush=True)
    os._exit(7)
print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
threading.stack_size(256 * 1024)


def deep(n):
    return 0 if n == 0 else 1 + deep(n - 1)


thread = threading.Thread(target=lambda: print("depth", deep(400)))
thread.start()
thread.join()
threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(64)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("many", len(threads))
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
threading.excepthook = lambda args: print("raised", args.exc_value)
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
print(threading.get_native_id() == os.getpid(), sys.version_info[:2])
