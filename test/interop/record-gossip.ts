/**
 * Records what a member in Go sends, for the tests that have no Go:
 * `node dist/test/interop/record-gossip.js > test/registry/gossip/go-bytes.json`
 */
import { GossipRegistry } from '../../src/registry/gossip/gossip.ts';
import type { Endpoint } from '../../src/registry/gossip/wire/endpoint.ts';
import {
  type GossipHandlers,
  type GossipStream,
  SocketNetwork,
} from '../../src/registry/gossip/wire/network.ts';
import { openPacket } from '../../src/registry/gossip/wire/packet.ts';
import { Sealer } from '../../src/registry/gossip/wire/seal.ts';
import { missingGo } from './go/go-programs.ts';
import { GoPeer } from './go-peer.ts';

const KEY = '0123456789abcdef';
const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** A network that writes down what arrives. */
class RecordingNetwork extends SocketNetwork {
  readonly packets: { readonly bytes: Uint8Array; readonly port: number }[] = [];
  readonly streams: Uint8Array[][] = [];
  isCut = false;

  override listen(at: Endpoint, maxStreams: number, handlers: GossipHandlers): Promise<Endpoint> {
    return super.listen(at, maxStreams, {
      onPacket: (bytes, from) => {
        this.packets.push({ bytes: Uint8Array.from(bytes), port: from.port });
        if (!this.isCut) handlers.onPacket(bytes, from);
      },
      onStream: (stream, from) => handlers.onStream(this.#recorded(stream), from),
    });
  }

  override async connect(to: Endpoint): Promise<GossipStream> {
    return this.#recorded(await super.connect(to));
  }

  #recorded(stream: GossipStream): GossipStream {
    const chunks: Uint8Array[] = [];
    this.streams.push(chunks);
    const read = async () => {
      const bytes = await stream.read();
      if (bytes !== null) chunks.push(Uint8Array.from(bytes));
      return bytes;
    };
    return { ...stream, read };
  }
}

const reason = missingGo('gossip');
if (reason !== false) throw new Error(reason);

const recorded: Record<string, { packets: string[]; streams: string[] }> = {};
for (const isCompressed of [false, true]) {
  for (const key of [null, KEY]) {
    const network = new RecordingNetwork();
    const options = { name: 'ours', onWarning: () => {}, ...(key === null ? {} : { key }) };
    const ours = new GossipRegistry({ ...options, bind: '127.0.0.1:0' }, network);
    const third = new GossipRegistry({
      ...options,
      bind: '127.0.0.1:0',
      name: 'third',
      seeds: [await ours.address()],
    });
    await third.address();
    const args = ['-join', await ours.address(), '-probe', '100ms'];
    args.push(`-compress=${isCompressed}`, ...(key === null ? [] : ['-key', key]));
    const go = await GoPeer.start('go', args);
    const node = { id: 'orders-1', address: '127.0.0.1:40001', metadata: { protocol: 'grpc' } };
    const record = {
      name: 'orders',
      version: 'latest',
      metadata: {},
      endpoints: [],
      nodes: [node],
    };
    go.register(record, 60_000);
    await new Promise((resolve) => setTimeout(resolve, 500));
    go.deregister(record);
    await third.close();
    await new Promise((resolve) => setTimeout(resolve, 300));
    network.isCut = true;
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await go.leave();
    const name = `${isCompressed ? 'compressed' : 'plain'}${key === null ? '' : ' encrypted'}`;
    const sealer = key === null ? null : new Sealer(Buffer.from(key), () => 'recorder');
    // One datagram of each kind, of Go alone.
    const kinds = new Map<string, string>();
    for (const { bytes, port } of network.packets) {
      if (port !== Number(go.address.split(':')[1])) continue;
      const { messages, refused } = openPacket(bytes, sealer);
      if (refused !== null) console.error(name, refused, hexOf(bytes));
      const kind = [...new Set(messages.map(({ type }) => type))].sort((a, b) => a - b).join();
      if (!kinds.has(kind)) kinds.set(kind, hexOf(bytes));
    }
    const streams = network.streams.map((chunks) => hexOf(Buffer.concat(chunks)));
    recorded[name] = {
      packets: [...kinds.values()],
      streams: streams.filter((text, index) => text !== '' && index < 4),
    };
    await ours.close();
  }
}
console.log(JSON.stringify(recorded, null, 2));
