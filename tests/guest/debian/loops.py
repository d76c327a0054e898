#!/usr/bin/python3
"""asyncio: tasks, streams over TCP and Unix sockets, datagrams, children, signals, threads."""

import asyncio
import os
import signal
import socket
import sys


async def echo(reader, writer):
    while data := await reader.readline():
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def talk(n, connect):
    reader, writer = await connect()
    writer.write(b"line %d\n" % n)
    answer = await reader.readline()
    writer.write_eof()
    rest = await reader.read()
    writer.close()
    return answer.decode().strip() + rest.decode()


async def main():
    order = []

    async def later(seconds, name):
        await asyncio.sleep(seconds)
        order.append(name)
        return name

    print(await asyncio.gather(later(0.3, "c"), later(0.1, "a"), later(0.2, "b")), order)
    try:
        await asyncio.wait_for(asyncio.sleep(100), 0.05)
    except TimeoutError:
        print("timed out")
    task = asyncio.create_task(asyncio.sleep(100))
    await asyncio.sleep(0)
    task.cancel()
    print("cancelled", (await asyncio.gather(task, return_exceptions=True))[0].__class__.__name__)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answers = await asyncio.gather(
        *(talk(n, lambda: asyncio.open_connection("127.0.0.1", port)) for n in range(20))
    )
    print(answers[0], answers[-1], len(set(answers)))
    server.close()
    await server.wait_closed()
    async with await asyncio.start_unix_server(echo, "socket"):
        print(await talk(7, lambda: asyncio.open_unix_connection("socket")))
    os.unlink("socket")

    class Datagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.transport.sendto(data[::-1], address)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setblocking(False)
    await loop.sock_sendto(client, b"datagram", transport.get_extra_info("sockname"))
    print(await loop.sock_recv(client, 100))
    client.close()
    transport.close()
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    print(await process.communicate(b"through a child"), process.returncode)
    process = await asyncio.create_subprocess_shell("echo shell; exit 3", stdout=-1)
    print(await process.communicate(), process.returncode)
    processes = await asyncio.gather(
        *(asyncio.create_subprocess_exec("sh", "-c", f"exit {n}") for n in range(5))
    )
    print(await asyncio.gather(*(process.wait() for process in processes)))
    process = await asyncio.create_subprocess_exec("sleep", "100")
    process.kill()
    print(await process.wait())
    caught = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, caught.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(caught.wait(), 60)
    print(
        "signal",
        await asyncio.to_thread(sum, range(1000)),
        await loop.run_in_executor(None, os.getpid) == os.getpid(),
    )
    queue = asyncio.Queue(2)

    async def produce():
        for n in range(50):
            await queue.put(n)

    task = asyncio.create_task(produce())
    print(sum([await queue.get() for _ in range(50)]), task.done() or await task)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(later(0.01 * n, n)) for n in range(5)]
    print([task.result() for task in tasks])
    read, write = os.pipe()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb"))
    os.write(write, b"pipe")
    os.close(write)
    print(await reader.read())
    with open(sys.argv[0], "rb") as file:
        left, right = socket.socketpair()
        right.setblocking(False)
        sender = asyncio.create_task(loop.sock_sendfile(right, file))
        left.setblocking(False)
        size = os.path.getsize(sys.argv[0])
        got = b""
        while len(got) < size:
            got += await loop.sock_recv(left, 65536)
        print(await sender == size, got[:18])
        left.close()
        right.close()


asyncio.run(main(), debug=False)
print(type(asyncio.new_event_loop()._selector).__name__)
