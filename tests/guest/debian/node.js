#!/usr/bin/node
// Node: the language, files, streams, children, workers, sockets, HTTP, crypto.
'use strict';
const fs = require('fs'), os = require('os'), path = require('path'), net = require('net'), http = require('http'), dgram = require('dgram');
const { execFileSync, spawn, fork, exec } = require('child_process');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto'), zlib = require('zlib'), { promisify } = require('util'), events = require('events'), { pipeline } = require('stream/promises'), vm = require('vm');

if (!isMainThread) {
    const view = new Int32Array(workerData.shared);
    for (let i = 0; i < 1000; i++) Atomics.add(view, 0, 1);
    parentPort.postMessage(workerData.n * 2);
    return;
}
if (process.argv[2] === 'child') {
    process.on('message', (m) => { process.send(m.n + 1); process.disconnect(); });
    return;
}

const fib = (n) => (n < 2 ? n : fib(n - 1) + fib(n - 2));
function* squares() { for (let i = 1; ; i++) yield i * i; }
class A { #x = 1; get x() { return this.#x; } static of() { return new this(); } }
class B extends A { get x() { return super.x + 1; } }

async function main() {
    console.log(fib(20), [...Array(5).keys()].map((x) => x ** 2), B.of().x, 2n ** 100n, 0.1 + 0.2, [3, 1, 2].sort(), typeof null);
    const taken = []; for (const s of squares()) { if (s > 50) break; taken.push(s); }
    console.log(taken, JSON.stringify({ a: [1, { b: null }], d: new Date(0) }), 'naïve'.toUpperCase(), 'a1b22'.match(/\d+/g), /(?<y>\d{4})/u.exec('in 2024').groups.y, 'x'.padStart(3, '-'));
    let hot = 0; for (let i = 0; i < 300000; i++) hot = (hot * 31 + i) | 0;
    console.log(hot, new Map([[1, 2]]), new Set([1, 1, 2]), Symbol('s').toString(), [1, [2, [3]]].flat(Infinity), new Intl.NumberFormat('en-US').format(1234567.891), structuredClone({ x: new Uint8Array([1, 2]) }));
    console.log(await Promise.all([1, 2, 3].map(async (x) => (await new Promise((r) => setTimeout(r, 10 * (4 - x))), x * 2))), await Promise.any([Promise.reject(1), 5]), (await Promise.allSettled([Promise.reject(new Error('e'))]))[0].status);
    try { null.f(); } catch (error) { console.log(error.constructor.name); }
    console.log(vm.runInNewContext('x + 1', { x: 41 }), new Function('a', 'return a * 2')(21), eval('1 + 1'));
    const order = []; setImmediate(() => order.push('immediate')); process.nextTick(() => order.push('tick')); Promise.resolve().then(() => order.push('micro')); await new Promise((r) => setTimeout(r, 30)); console.log(order);

    fs.mkdirSync('d/e', { recursive: true }); fs.writeFileSync('d/f', 'x'.repeat(100000)); fs.appendFileSync('d/f', 'end'); console.log(fs.statSync('d/f').size, fs.readFileSync('d/f', 'utf8').slice(-4), fs.readdirSync('d'), fs.existsSync('nowhere'));
    await pipeline(fs.createReadStream('d/f'), zlib.createGzip(), fs.createWriteStream('d/f.gz')); console.log(zlib.gunzipSync(fs.readFileSync('d/f.gz')).length); console.log((await fs.promises.readFile('d/f')).length, await fs.promises.access('nowhere').catch((e) => e.code));
    const changed = new Promise((r) => { const w = fs.watch('d', (kind, name) => { w.close(); r(name); }); }); fs.writeFileSync('d/new', ''); console.log('watched', await changed);
    fs.symlinkSync('f', 'd/l'); console.log(fs.readlinkSync('d/l'), path.basename(fs.realpathSync('d/l')), os.endianness(), os.EOL === '\n', os.cpus().length > 0); fs.rmSync('d', { recursive: true });

    console.log(execFileSync('echo', ['from a child']).toString(), (await promisify(exec)('echo $0; echo err >&2')).stderr);
    const cat = spawn('cat'); cat.stdin.end('through cat'); let text = ''; for await (const part of cat.stdout) text += part; console.log(text, await events.once(spawn('sh', ['-c', 'exit 3']), 'exit'), await events.once(spawn('sh', ['-c', 'kill -9 $$']), 'exit'), (await events.once(spawn('/nowhere'), 'error'))[0].code);
    const child = fork(__filename, ['child']); child.send({ n: 41 }); console.log('message', (await events.once(child, 'message'))[0], (await events.once(child, 'exit'))[0]);
    const shared = new SharedArrayBuffer(4); const answers = await Promise.all([1, 2].map(async (n) => (await events.once(new Worker(__filename, { workerData: { n, shared } }), 'message'))[0])); await new Promise((r) => setTimeout(r, 50)); console.log('workers', answers, new Int32Array(shared)[0]);
    process.on('SIGUSR2', () => order.push('signal')); process.kill(process.pid, 'SIGUSR2'); while (!order.includes('signal')) await new Promise((r) => setTimeout(r, 5)); console.log('signal came');

    const echo = net.createServer((s) => s.pipe(s)).listen(0, '127.0.0.1'); await events.once(echo, 'listening'); const c = net.connect(echo.address().port, '127.0.0.1'); c.end('echoed'); text = ''; for await (const part of c) text += part; console.log(text); echo.close();
    const server = http.createServer(async (q, a) => { let body = ''; for await (const p of q) body += p; a.setHeader('X-Method', q.method); a.end(body.toUpperCase()); }).listen(0, '127.0.0.1'); await events.once(server, 'listening'); const url = `http://127.0.0.1:${server.address().port}/`; for (let i = 0; i < 3; i++) { const answer = await fetch(url, { method: 'POST', body: `request ${i}` }); console.log(answer.status, answer.headers.get('x-method'), await answer.text()); } server.close(); server.closeAllConnections();
    const u = dgram.createSocket('udp4'); u.bind(0, '127.0.0.1'); await events.once(u, 'listening'); u.send('datagram', u.address().port, '127.0.0.1'); console.log((await events.once(u, 'message'))[0].toString()); u.close();
    console.log(crypto.createHash('sha256').update('abc').digest('hex'), crypto.createHmac('md5', 'k').update('d').digest('base64'), crypto.randomBytes(8).length, crypto.pbkdf2Sync('p', 's', 1000, 16, 'sha512').toString('hex'), (await promisify(crypto.scrypt)('p', 's', 16, { N: 1024 })).toString('hex')); const { privateKey, publicKey } = crypto.generateKeyPairSync('ed25519'); console.log(crypto.verify(null, Buffer.from('m'), publicKey, crypto.sign(null, Buffer.from('m'), privateKey))); const cipher = crypto.createCipheriv('aes-256-gcm', Buffer.alloc(32), Buffer.alloc(12)); console.log(cipher.update('text', 'utf8', 'hex') + cipher.final('hex'), cipher.getAuthTag().toString('hex'));
    const wasm = new WebAssembly.Instance(new WebAssembly.Module(Buffer.from('0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b', 'hex'))); console.log('wasm', wasm.exports.add(40, 2), process.version.split('.')[0] > 'v', process.argv.length, process.exitCode);
    process.on('exit', (code) => console.log('exit', code)); process.exitCode = 4;
}
main();
