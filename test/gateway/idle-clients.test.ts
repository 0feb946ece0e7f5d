/**
 * Clients that wait for what comes: how many, and what each costs. RIVULET_FULL=1 opens ten thousand.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ended, startChild } from '../helpers/children.ts';
import { until } from '../helpers/until.ts';
import type { Measured, Order } from './idle-clients-child.ts';

const CLIENTS = process.env.RIVULET_FULL === '1' ? 10_000 : 2000;
const TOGETHER = 100;
/** Of what the gateway uses for one idle client; measured: 11 kB. */
const MOST_BYTES = 30_000;
const CHILD = fileURLToPath(new URL('./idle-clients-child.js', import.meta.url));

test(`${CLIENTS} idle clients share one subscription, each gets what comes, and none costs much`, async (t) => {
  const child = startChild(process.execPath, ['--expose-gc', CHILD], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const [address] = (await once(child, 'message')) as [string];
  const sockets: Socket[] = [];
  let got = 0;
  const open = () =>
    opened(address, sockets, () => {
      got++;
    });
  try {
    // What the first ones need is there for all.
    for (let i = 0; i < TOGETHER; i++) await open();
    const before = await measure(child);
    for (let i = TOGETHER; i < CLIENTS; i += TOGETHER) {
      await Promise.all(Array.from({ length: TOGETHER }, open));
    }
    const after = await measure(child);
    const each = (name: keyof Measured) =>
      Math.round((after[name] - before[name]) / (CLIENTS - TOGETHER));
    t.diagnostic(`${each('used')} bytes in use and ${each('resident')} resident for each client`);
    assert.ok(each('used') < MOST_BYTES, `${each('used')} bytes for each client`);
    child.send('publish' satisfies Order);
    await until(
      () => got === CLIENTS,
      () => `${got} of ${CLIENTS} got the message`,
    );
  } finally {
    for (const socket of sockets) socket.destroy();
    child.kill('SIGKILL');
    await ended(child);
  }
});

/** Resolves when the stream of events has begun. */
function opened(address: string, sockets: Socket[], onMessage: () => void): Promise<void> {
  const socket = connect(Number(address.split(':')[1]), '127.0.0.1');
  sockets.push(socket);
  socket.write('GET /_/topics/news HTTP/1.1\r\nHost: x\r\n\r\n');
  let text = '';
  let isOpen = false;
  return new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`the gateway closed a connection: ${text}`)));
    socket.on('data', (chunk) => {
      text += chunk;
      if (!isOpen && text.includes('retry:')) {
        isOpen = true;
        resolve();
      }
      if (text.includes('data: all\n\n')) {
        text = '';
        onMessage();
      }
    });
  });
}

async function measure(child: ChildProcess): Promise<Measured> {
  const answer = once(child, 'message');
  child.send('measure' satisfies Order);
  return (await answer)[0];
}
