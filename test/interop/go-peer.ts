/** A member of a ring in Go, on HashiCorp's memberlist: `interop/go/gossip`. */
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { ServiceRecord } from '../../src/registry/registry.ts';
import { startChild } from '../helpers/children.ts';
import { goProgram } from './go/go-programs.ts';

interface Line {
  readonly what: string;
  readonly about: unknown;
}

export class GoPeer {
  readonly name: string;
  readonly process: ChildProcess;
  readonly #lines: Line[] = [];
  #changed: () => void = () => {};
  address = '';

  private constructor(name: string, process: ChildProcess) {
    this.name = name;
    this.process = process;
    createInterface({ input: process.stdout! }).on('line', (line) => {
      this.#lines.push(JSON.parse(line));
      this.#changed();
    });
  }

  static async start(name: string, args: readonly string[]): Promise<GoPeer> {
    const child = startChild(goProgram('gossip'), ['-name', name, ...args], {
      stdio: ['pipe', 'pipe', process.env.GO_PEER_LOG ? 'inherit' : 'ignore'],
    });
    const peer = new GoPeer(name, child);
    peer.address = (await peer.said('ready')) as string;
    return peer;
  }

  /** What the program said of `what`, about `about` where that is given; now or later. */
  async said(what: string, about?: string, from = 0): Promise<unknown> {
    const found = () =>
      this.#lines
        .slice(from)
        .find((line) => line.what === what && (about === undefined || line.about === about));
    for (;;) {
      const line = found();
      if (line !== undefined) return line.about;
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  has(what: string, about: string): boolean {
    return this.#lines.some((line) => line.what === what && line.about === about);
  }

  register(record: ServiceRecord, ttlMs: number): void {
    this.#write(`register ${ttlMs} ${JSON.stringify(record)}`);
  }

  deregister(record: ServiceRecord): void {
    this.#write(`deregister ${JSON.stringify(record)}`);
  }

  /** The nodes that it knows, by service and id. */
  async list(): Promise<Record<string, Record<string, ServiceRecord>>> {
    return (await this.#ask('list')) as never;
  }

  async members(): Promise<string[]> {
    return (await this.#ask('members')) as string[];
  }

  async leave(): Promise<void> {
    await this.#ask('leave', 'left');
  }

  #ask(word: string, answer = word): Promise<unknown> {
    const from = this.#lines.length;
    this.#write(word);
    return this.said(answer, undefined, from);
  }

  #write(line: string): void {
    this.process.stdin?.write(`${line}\n`);
  }
}
