/**
 * Packets of Go's mDNS, in a separate network, because Go speaks on every interface and on port 5353.
 */

import { createSocket } from 'node:dgram';
import makeMdns from 'multicast-dns';
import { type GoMicro, startGo } from './go-programs.ts';

const GROUP = '224.0.0.251';

/** A shell line that makes a loopback with multicast and runs a command there; for `unshare -rn sh -c`. */
export function ownNetwork(command: string): string {
  return `ip link set lo up multicast on && ip addr add 10.99.0.1/32 dev lo && ip route add 224.0.0.0/4 dev lo && exec ${command}`;
}

/** The answers, in base64, to questions for a service and for the directory, and the farewells. */
export async function recordPackets(version: GoMicro, service: string): Promise<string[]> {
  const packets: string[] = [];
  const [group, alone] = [createSocket({ type: 'udp4', reuseAddr: true }), createSocket('udp4')];
  for (const socket of [group, alone]) {
    socket.on('message', (bytes) => {
      // The first bit of the flags: an answer.
      if (((bytes[2] ?? 0) & 0x80) !== 0) packets.push(bytes.toString('base64'));
    });
  }
  await new Promise<void>((resolve) => group.bind(5353, resolve));
  group.addMembership(GROUP, '127.0.0.1');
  // Go answers to the port that asks.
  const asking = makeMdns({ interface: '127.0.0.1', bind: false, socket: alone });
  const go = await startGo(version, 'serve', 'mucp', 'mdns', service, '');
  for (const name of [`${service}.micro`, '_services.micro']) {
    const answered = new Promise((resolve) => asking.once('response', resolve));
    asking.query([{ name, type: 'PTR', class: 'IN' }]);
    await answered;
  }
  await go[Symbol.asyncDispose]();
  await new Promise((resolve) => asking.destroy(() => resolve(null)));
  await new Promise<void>((resolve) => group.close(resolve));
  return [...new Set(packets)];
}
