/**
 * Embedded brokers for the suite: every `open` is another broker on the same memory or directory.
 */
import { join } from 'node:path';
import { EmbeddedBroker } from '../../src/broker/embedded-broker.ts';
import type { BrokerOptions } from '../../src/broker/options.ts';
import type { Backing } from '../../src/conformance/index.ts';
import { temporaryDirectory } from '../helpers/temporary-directory.ts';

let number = 0;

export async function memoryBacking(shared: Partial<BrokerOptions> = {}): Promise<Backing> {
  const backing = await embedded(`memory:conformance-${number++}`, shared);
  return backing;
}

export async function fileBacking(): Promise<Backing> {
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
    connections: async () => 0,
    async [Symbol.asyncDispose]() {
      for (const broker of brokers) await broker.disconnect();
      await directory[Symbol.asyncDispose]();
    },
  };
}

async function embedded(address: string, shared: Partial<BrokerOptions>): Promise<Backing> {
  const brokers = new Set<EmbeddedBroker>();
  const open = async (options: Partial<BrokerOptions> = {}) => {
    const broker = new EmbeddedBroker([address], { ...shared, ...options });
    await broker.connect();
    brokers.add(broker);
    return broker;
  };
  // Memory lasts as long as somebody is connected to it.
  const anchor = await open();
  return {
    open,
    async flush() {
      await anchor.flush();
    },
    /** There are none; what the case that asks for it looks for is timers. */
    connections: async () => 0,
    async [Symbol.asyncDispose]() {
      for (const broker of brokers) await broker.disconnect();
    },
  };
}
