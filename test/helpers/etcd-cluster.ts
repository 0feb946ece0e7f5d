/**
 * A real cluster of three etcd servers, of which one can be cut off from the others while all of them run
 * and answer clients.
 *
 * The members reach each other through proxies of this process. Each request between members names its
 * sender, so a proxy knows which two members a connection joins.
 */
import assert from 'node:assert/strict';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { EtcdNode } from './etcd-server.ts';
import { freePort } from './free-port.ts';

const MEMBERS = [0, 1, 2] as const;

export class EtcdCluster implements AsyncDisposable {
  readonly members: EtcdNode[] = [];
  readonly #proxies: MemberProxy[] = [];
  /** The member that is cut off: its place, and its id as its requests say it. */
  #cutOff: { readonly index: number; readonly id: string } | null = null;

  static async start(): Promise<EtcdCluster> {
    const cluster = new EtcdCluster();
    const targets = [await freePort(), await freePort(), await freePort()];
    for (const index of MEMBERS) {
      const isCut = (from: string) => cluster.#isCut(index, from);
      cluster.#proxies.push(await MemberProxy.start(targets[index] as number, isCut));
    }
    for (const index of MEMBERS) {
      const own = cluster.#proxies[index]?.port as number;
      const others = cluster.#proxies.map(({ port }) => port).filter((port) => port !== own);
      const target = targets[index] as number;
      cluster.members.push(new EtcdNode(await freePort(), target, [own, ...others]));
    }
    const starts = await Promise.allSettled(cluster.members.map((member) => member.start()));
    const failed = starts.find((start) => start.status === 'rejected');
    if (failed === undefined) return cluster;
    await cluster[Symbol.asyncDispose]();
    throw failed.reason;
  }

  /** No member receives anything of this one, and it nothing of them. */
  async cutOff(index: number): Promise<void> {
    const reply = await fetch(
      `http://127.0.0.1:${this.members[index]?.port}/v3/maintenance/status`,
      {
        method: 'POST',
        body: '{}',
      },
    );
    const { header } = (await reply.json()) as { header?: { member_id?: string } };
    assert.ok(header?.member_id);
    this.#cutOff = { index, id: BigInt(header.member_id).toString(16) };
    for (const proxy of this.#proxies) proxy.endCut();
  }

  join(): void {
    this.#cutOff = null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.members.map((member) => member[Symbol.asyncDispose]()));
    await Promise.all(this.#proxies.map((proxy) => proxy.close()));
  }

  #isCut(to: number, from: string): boolean {
    return this.#cutOff !== null && (this.#cutOff.index === to || this.#cutOff.id === from);
  }
}

/** Passes on the connections to one member, but those that are cut. */
class MemberProxy {
  readonly #server: Server;
  readonly #isCut: (from: string) => boolean;
  readonly #sockets = new Map<Socket, string>();

  private constructor(target: number, isCut: (from: string) => boolean) {
    this.#isCut = isCut;
    this.#server = createServer((socket) => {
      const other = connect(target, '127.0.0.1');
      this.#sockets.set(socket, '');
      for (const [each, peer] of [
        [socket, other],
        [other, socket],
      ] as const) {
        each.on('error', () => {});
        each.on('close', () => peer.destroy());
      }
      socket.on('close', () => this.#sockets.delete(socket));
      other.pipe(socket);
      socket.on('data', (bytes) => {
        const [, from] = /^x-server-from: *([0-9a-f]+)/im.exec(bytes.toString('latin1')) ?? [];
        if (from !== undefined) this.#sockets.set(socket, from);
        if (isCut(this.#sockets.get(socket) ?? '')) socket.destroy();
        else other.write(bytes);
      });
    });
  }

  static async start(target: number, isCut: (from: string) => boolean): Promise<MemberProxy> {
    const proxy = new MemberProxy(target, isCut);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  endCut(): void {
    for (const [socket, from] of this.#sockets) if (this.#isCut(from)) socket.destroy();
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets.keys()) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
