/**
 * Embedded brokers for the suite: every `open` is another broker on the same memory or directory.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { EmbeddedBroker } from '../../src/broker/embedded/embedded-broker.ts';
import type { BrokerOptions } from '../../src/broker/options/options.ts';
import type { Fixture } from '../../src/conformance/index.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

let number = 0;

async function occupyIn(broker: EmbeddedBroker, topic: string): Promise<() => Promise<void>> {
  const host = EmbeddedBroker.hostOf(broker);
  assert.ok(host !== null);
  const key = Buffer.from(topic);
  const value = { type: 'string', bytes: Buffer.from('no topic') } as const;
  host.change(() => host.database.set(key, value, 0));
  await host.durable();
  return async () => {
    host.change(() => {
      const entry = host.database.findKey(key);
      if (entry !== undefined) host.database.remove(entry);
    });
    await host.durable();
  };
}

export async function memoryFixture(shared: Partial<BrokerOptions> = {}): Promise<Fixture> {
  const fixture = await embedded(`memory:conformance-${number++}`, shared);
  return fixture;
}

export async function fileFixture(): Promise<Fixture> {
  const directory = temporaryDirectory('embedded');
  const address = `file:${join(directory.path, 'data')}`;
  const brokers = new Set<EmbeddedBroker>();
  const open = async (options: Partial<BrokerOptions> = {}) => {
    const broker = new EmbeddedBroker([address], options);
    await broker.connect();
    brokers.add(broker);
    return broker;
  };
  return {
    open,
    // The directory is one process's at a time.
    processUrl: address,
    async flush() {
      await using broker = await open();
      await broker.flush();
    },
    occupy: async (topic) => occupyIn(await open(), topic),
    connections: async () => 0,
    async [Symbol.asyncDispose]() {
      for (const broker of brokers) await broker.disconnect();
      await directory[Symbol.asyncDispose]();
    },
  };
}

async function embedded(address: string, shared: Partial<BrokerOptions>): Promise<Fixture> {
  const brokers = new Set<EmbeddedBroker>();
  const open = async (options: Partial<BrokerOptions> = {}) => {
    const broker = new EmbeddedBroker([address], { ...shared, ...options });
    await broker.connect();
    brokers.add(broker);
    return broker;
  };
  // Memory lasts as long as a broker is connected to it.
  const anchor = await open();
  return {
    open,
    async flush() {
      await anchor.flush();
    },
    occupy: (topic) => occupyIn(anchor, topic),
    /** There are none; what the case that asks for it looks for is timers. */
    connections: async () => 0,
    async [Symbol.asyncDispose]() {
      for (const broker of brokers) await broker.disconnect();
    },
  };
}
