/** A registry, a broker whose audit can be read, services, and a log whose lines can be read. */

import { type Bot, startBot } from '../../src/bot/bot.ts';
import type { BotOptions } from '../../src/bot/options.ts';
import { AUDIT_TOPIC, type AuditEntry } from '../../src/broker/audit.ts';
import type { Broker } from '../../src/broker/broker.ts';
import { openBroker } from '../../src/broker/open-broker.ts';
import { MemoryRegistry } from '../../src/registry/memory.ts';
import type { Log } from '../../src/rpc/context.ts';
import { contract, unary } from '../../src/rpc/contract.ts';
import { createService, type Service } from '../../src/service/service.ts';
import { until } from '../helpers/until.ts';

const Greeter = contract('go.micro.srv.greeter', {
  Say: {
    Hello: unary<{ name?: string }, unknown>(),
    Big: unary<{ size: number }, unknown>(),
    Never: unary<unknown, unknown>(),
  },
});

export interface BotFixture extends AsyncDisposable {
  readonly broker: Broker;
  readonly registry: MemoryRegistry;
  readonly service: Service;
  /** Lines of the log of every bot. */
  readonly lines: string[];
  readonly audit: AuditEntry[];
  start(options: BotOptions): Promise<Bot>;
}

export const quiet = { transport: 'tcp', environment: false as const, args: false as const };

export async function botFixture(): Promise<BotFixture> {
  const registry = new MemoryRegistry();
  const broker = await openBroker('memory:');
  const audit: AuditEntry[] = [];
  await broker.subscribe(AUDIT_TOPIC, (delivery) => audit.push(delivery.json()), {
    from: 'earliest',
  });
  const service = createService({ ...quiet, registry, version: '1.0.0' }).handle(Greeter, {
    Say: {
      Hello: ({ name }) => ({ msg: `Hello ${name}` }),
      Big: ({ size }) => ({ text: 'x'.repeat(size) }),
      Never: (_request, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
        }),
    },
  });
  await service.start();
  const bots: Bot[] = [];
  const lines: string[] = [];
  const line = (fields: object | string, text = '') =>
    lines.push(`${typeof fields === 'string' ? fields : JSON.stringify(fields)} ${text}`.trim());
  const log: Log = { debug: line, info: line, warn: line, error: line };
  return {
    broker,
    registry,
    service,
    lines,
    audit,
    async start(options) {
      const bot = await startBot({ registry, broker, log, ...options });
      bots.push(bot);
      return bot;
    },
    async [Symbol.asyncDispose]() {
      for (const bot of bots) await bot.stop();
      await service.stop();
      await broker.disconnect();
    },
  };
}

/** Waits for what is seen without an event: other programs' state. */
export async function settled(isSo: () => boolean): Promise<void> {
  await until(isSo);
}
